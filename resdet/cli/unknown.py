"""Errors for unknown options and words."""

import argparse
import difflib
from collections.abc import Sequence
from typing import NoReturn

from resdet.cli.candidates import Place

# Names in other libraries -> options of resdet; a command has at most one of them.
OPTIONS = {
    "cfg": ("--config",),
    "checkpoint": ("--weights", "--init"),
    "conf": ("--score",),
    "config_file": ("--config",),
    "format": ("--to",),
    "model": ("--weights",),
    "name": ("--out",),
    "output": ("--out", "--draw"),
    "output_dir": ("--out", "--draw"),
    "pretrained": ("--init",),
    "project": ("--out",),
    "save": ("--draw",),
    "threshold": ("--score",),
    "weights": ("--init",),
}
IMAGES = ("image", "images", "input", "source")  # names in other libraries for the images of `resdet predict`
NEAR = 0.75  # minimum similarity of a suggested option


def refuse_options(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Exits with the usage of the subcommand and a suggestion for the first unknown option, before argparse reports
    missing arguments."""
    place = Place(parser)
    for word in words:
        if word in ("-h", "--help", "--"):
            return
        place.pass_over(word)
        name, options = word.partition("=")[0], place.parser._option_string_actions
        if name.startswith("--") and not any(option.startswith(name) for option in options):
            place.parser.error(f"there is no option {name}: {remedy(place.parser, name)}")


def refuse(parser: argparse.ArgumentParser, words: Sequence[str], unknown: str) -> NoReturn:
    """Exits with the usage of the subcommand."""
    place = Place(parser)
    for word in words:
        place.pass_over(word)
    place.parser.error(f"{unknown!r} is not expected here: leave it out.")


def remedy(command: argparse.ArgumentParser, name: str) -> str:
    from resdet.config.reference import overrides_named

    spelled = name.strip("-").replace("-", "_").lower()
    options = command._option_string_actions
    for option in OPTIONS.get(spelled, ()):
        if option in options:
            return f"did you mean {option}?"
    positionals = {action.dest for action in command._get_positional_actions()}
    if "images" in positionals and spelled in IMAGES:
        return "give the images without an option."
    given = overrides_named(spelled)
    if given and ("overrides" in positionals or ("images" in positionals and given.startswith("eval."))):
        return f"give {given} instead."
    near = difflib.get_close_matches(name.strip("-"), [option.strip("-") for option in options], n=1, cutoff=NEAR)
    return f"did you mean --{near[0]}?" if near else f"`{command.prog} --help` lists the options."
