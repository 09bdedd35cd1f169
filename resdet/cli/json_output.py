"""The `--json` option: the results of a command as JSON, in a file, or on stdout instead of its tables."""

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
        help=f"write {content} as JSON to FILE; with `-` or no FILE, print JSON instead of tables",
    )


def json_file(text: str) -> str:
    """argparse `type` for --json; refuses an existing file that is not JSON, such as an image after a bare `--json`."""
    if text == STDOUT:
        return text
    from resdet.config import is_override

    if is_override(text):
        raise argparse.ArgumentTypeError(f"{text} is a setting, not a file: write `--json -` before it.")
    if Path(text).is_file() and Path(text).suffix != ".json":
        raise argparse.ArgumentTypeError(f"{text} exists and is not a .json file: write `--json -` before other words.")
    return output_file(text)


@contextmanager
def json_on_stdout(parsed: argparse.Namespace) -> Iterator[None]:
    """With `--json -`, writes only the JSON to stdout; all other output goes to stderr."""
    if getattr(parsed, "json", None) != STDOUT:
        yield
        return
    with TemporaryDirectory() as folder:
        file = Path(folder, "output.json")
        parsed.json = str(file)
        with redirect_stdout(sys.stderr):
            yield
        if file.exists():  # with several processes, only one writes it
            print(file.read_text(encoding="utf-8"))
