"""Arguments that several commands take."""

import argparse
from collections.abc import Sequence

from resdet.files.atomic import check_file, check_folder


def add_config_arguments(parser: argparse.ArgumentParser, required: bool = True) -> None:
    parser.add_argument(
        "--config", required=required, metavar="NAME_OR_PATH", help="a YAML file, or its name in configs/"
    )
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings over those of the config")


def without_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words of an option that takes several, and the overrides after them, which argparse adds to these."""
    from resdet.config import is_override

    overrides = [word for word in words if is_override(word)]
    return [word for word in words if word not in overrides], overrides


def output_file(text: str) -> str:
    """The `type` of an argument that names a file to write: one that cannot be is refused before any work."""
    check_file(text)
    return text


def output_folder(text: str) -> str:
    """The `type` of an argument that names a folder to write into."""
    check_folder(text)
    return text
