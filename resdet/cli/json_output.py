"""`--json`: what a command finds, as JSON in a file, or on stdout in place of its tables."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

from resdet.cli.arguments import output_file

STDOUT = "-"


def add_json_argument(parser: argparse.ArgumentParser, content: str) -> None:
    parser.add_argument(
        "--json",
        nargs="?",
        const=STDOUT,
        type=json_file,
        metavar="FILE",
        help=f"write {content} to FILE as JSON; as `-` or without FILE, print the JSON instead of tables",
    )


def json_file(text: str) -> str:
    """The `type` of the argument: what follows `--json` by mistake, such as an image, is not overwritten."""
    if text == STDOUT:
        return text
    from resdet.config import is_override

    if is_override(text):
        raise argparse.ArgumentTypeError(f"{text} is a setting, not a file: write `--json -` before it.")
    if Path(text).is_file() and Path(text).suffix != ".json":
        raise argparse.ArgumentTypeError(f"{text} exists and is no .json file: write `--json -` before other words.")
    return output_file(text)


@contextmanager
def json_on_stdout(parsed: argparse.Namespace) -> Iterator[None]:
    """With `--json -` the JSON alone goes to stdout, and what the command prints to stderr."""
    if getattr(parsed, "json", None) != STDOUT:
        yield
        return
    with TemporaryDirectory() as folder:
        file = Path(folder, "output.json")
        parsed.json = str(file)
        with redirect_stdout(sys.stderr):
            yield
        if file.exists():  # of several processes one writes it
            print(file.read_text(encoding="utf-8"))
