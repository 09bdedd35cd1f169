"""Candidates for command-line completion, derived from the parsers of `resdet`, without torch."""

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from resdet.errors import Error

Values = Callable[[Sequence[str], str], Iterable[str]]  # (all words, the beginning of the last one) -> candidates


def candidates(parser: argparse.ArgumentParser, words: Sequence[str]) -> list[str]:
    """Returns completions of the last word; empty where files are expected, which shells complete themselves."""
    place, beginning = Place(parser), words[-1]
    for word in words[:-1]:
        place.pass_over(word)
    name, equals, value = beginning.partition("=")
    if beginning.startswith("--") and equals:
        action = place.parser._option_string_actions.get(name)
        return sorted(f"{name}={match}" for match in matching(values(action, words, value), value)) if action else []
    if beginning.startswith("-"):
        return sorted(matching((*place.parser._option_string_actions, "--import"), beginning))
    return sorted(
        {match for action in place.expected() for match in matching(values(action, words, beginning), beginning)}
    )


class Place:
    """A position in a command line: the parser of the subcommand, and the argument that the next word belongs to."""

    def __init__(self, parser: argparse.ArgumentParser):
        self.parser = parser
        self.option: argparse.Action | None = None  # option whose value the next word may be
        self.values = 0  # number of values of the option so far
        self.positionals = 0  # number of positionals of the parser so far

    def pass_over(self, word: str) -> None:
        if word.startswith("-"):
            action = self.parser._option_string_actions.get(word)
            self.option, self.values = (action if action and action.nargs != 0 else None), 0
        elif self.option is not None:
            self.values += 1
            if self.option.nargs in (None, "?"):
                self.option = None
        else:
            expected = self.positional()
            self.positionals += 1
            if expected and isinstance(expected.choices, Mapping) and word in expected.choices:
                self.parser, self.positionals = expected.choices[word], 0

    def positional(self) -> argparse.Action | None:
        """Returns the positional argument that the next word belongs to."""
        actions = self.parser._get_positional_actions()
        for number, action in enumerate(actions):
            if number == self.positionals or action.nargs in ("*", "+"):
                return action
        return None

    def expected(self) -> list[argparse.Action]:
        """Returns the arguments that the next word may belong to: options with values, and overrides of a config."""
        if self.option is not None and (self.values == 0 and self.option.nargs != "?"):
            return [self.option]
        positional = self.positional()
        overrides = [action for action in self.parser._get_positional_actions() if action.dest == "overrides"]
        actions = [self.option, positional, *overrides]
        return [
            action for number, action in enumerate(actions) if action is not None and action not in actions[:number]
        ]


def values(action: argparse.Action, words: Sequence[str], beginning: str) -> Iterable[str]:
    if action.choices is not None:
        return map(str, action.choices)
    return VALUES[action.dest](words, beginning) if action.dest in VALUES else ()


def matching(words: Iterable[str], beginning: str) -> list[str]:
    return [word for word in words if word.startswith(beginning)]


def configs(words: Sequence[str], beginning: str) -> Iterable[str]:
    """Returns names in configs/, and YAML files in the current folder."""
    from resdet import config

    return [*config.shipped(), *map(str, Path().glob("*.yaml"))]


def weights(words: Sequence[str], beginning: str) -> Iterable[str]:
    """Returns published models once their first letters are typed: files are more common."""
    from resdet.weights import zoo

    return zoo.names() if beginning else ()


def keys(words: Sequence[str], beginning: str) -> Iterable[str]:
    """Returns the keys of the config on the command line, one level at a time, and the values of a complete key."""
    from resdet import config

    named = [words[k + 1] for k in range(len(words) - 2) if words[k] == "--config"]
    named += [word.partition("=")[2] for word in words if word.startswith("--config=")]
    try:
        tree: Any = config.to_dict(config.load(named[0] if named else "custom"))
    except Error:
        return []
    key, equals, _ = beginning.partition("=")
    above = key if equals else key.rpartition(".")[0]
    for part in filter(None, above.split(".")):
        tree = tree.get(part) if isinstance(tree, dict) else None
    if equals:
        shown = {True: "true", False: "false", None: "null"}
        return [f"{key}={word}" for word in (("true", "false") if isinstance(tree, bool) else [shown.get(tree, tree)])]
    prefix = f"{above}." if above else ""
    section = tree if isinstance(tree, dict) else {}  # a section may be null or `auto`
    return [f"{prefix}{name}{'.' if isinstance(below, dict) else '='}" for name, below in section.items()]


def explained(words: Sequence[str], beginning: str) -> Iterable[str]:
    """Returns sections and keys of all tasks, at most as deep as the typed prefix."""
    from resdet.config.reference import sections

    known = {name for section in sections() for name in (section.path, *(key.key for key in section.keys))}
    return [name for name in known if name.count(".") <= beginning.count(".")]


def backbones(words: Sequence[str], beginning: str) -> Iterable[str]:
    from resdet.backbones import names

    return names()


def rows(words: Sequence[str], beginning: str) -> Iterable[str]:
    from resdet.reproduce.tables import FIGURES, TABLES

    return [*(table.__name__ for table in TABLES), *FIGURES]


VALUES: dict[str, Values] = {  # by argument name
    "config": configs,
    "overrides": keys,
    "explain": explained,
    "weights": weights,
    "init": weights,
    "names": backbones,
    "target": rows,
}
