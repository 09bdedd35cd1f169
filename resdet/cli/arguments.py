"""Arguments that several commands take."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path


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
    """The `type` of an argument that names a file to write: its folder is made now, so that no work is done in vain."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder: name a file in it.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise argparse.ArgumentTypeError(
            f"the folder of {text} cannot be made ({error.strerror}): name a file in another one."
        ) from None
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text} cannot be written: name a file where you may write.")
    return text
