"""The error for options and words that a command does not have."""

import argparse
from collections.abc import Sequence
from typing import NoReturn

from resdet.cli.candidates import Place
from resdet.errors import hint

# Names in other libraries -> our options, of which a command has one or none.
OPTIONS = {
    "checkpoint": ("--weights", "--init"),
    "conf": ("--score",),
    "format": ("--to",),
    "model": ("--weights",),
    "output": ("--out", "--draw"),
    "pretrained": ("--init",),
    "threshold": ("--score",),
    "weights": ("--init",),
}
# Names in other libraries -> the last part of our key.
KEYS = {"amp": "precision", "batch_size": "batch", "epochs": "length", "learning_rate": "lr", "max_iter": "length"}


def refuse(parser: argparse.ArgumentParser, words: Sequence[str], unknown: Sequence[str]) -> NoReturn:
    """Exits with the usage of the subcommand, and the option or key that the first unknown word may mean."""
    place = Place(parser)
    for word in words:
        place.pass_over(word)
    name = unknown[0].partition("=")[0]
    if name.startswith("--"):
        place.parser.error(f"there is no option {name}: {remedy(place.parser, name)}")
    place.parser.error(f"{unknown[0]!r} is not expected here: leave it out.")


def remedy(command: argparse.ArgumentParser, name: str) -> str:
    spelled = name.strip("-").replace("-", "_").lower()
    options = command._option_string_actions
    for option in OPTIONS.get(spelled, ()):
        if option in options:
            return f"did you mean {option}?"
    if any(action.dest == "overrides" for action in command._get_positional_actions()):
        if keys := keys_of(KEYS.get(spelled, spelled)):
            return f"give {' or '.join(f'{key}=VALUE' for key in keys)} instead."
    return hint(name, options, f"`{command.prog} --help` lists the options.")


def keys_of(last: str) -> list[str]:
    """The keys of sections with this last part, those of the training first."""
    from resdet.config.reference import sections

    keys = {f"{section}.{last}" for section in ("train", "optim", "schedule", "data", "eval")}
    known = [key.key for section in sections() for key in section.keys]
    return sorted(keys.intersection(known), key=lambda key: (not key.startswith("train."), key))
