"""The `resdet` command. Nothing heavy is imported before a subcommand needs it."""

import argparse
import os
import sys
from collections.abc import Sequence

from resdet.cli import bench, config, convert, data, evaluate, export, nets, parity, predict, reproduce, train
from resdet.cli.json_output import json_on_stdout
from resdet.errors import Error

COMMANDS = (train, evaluate, predict, reproduce, convert, export, nets, config, data, bench, parity)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one subcommand: status 0, 2 for a user's mistake, 1 for ours (with its traceback)."""
    parsed = parse(arguments)
    try:
        run(parsed)
    except Error as error:
        print(f"resdet: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of our output has gone, as `resdet nets | head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print("resdet: interrupted", file=sys.stderr)
        return 130
    return 0


def run_words(words: Sequence[str]) -> None:
    """`resdet WORDS` within this process; errors are raised."""
    run(parse(words))


def run(parsed: argparse.Namespace) -> None:
    with json_on_stdout(parsed):
        parsed.run(parsed)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """argparse takes positional words in one place alone; overrides and images may stand anywhere."""
    parser = build_parser()
    parsed, rest = parser.parse_known_args(arguments)
    scattered = getattr(parsed, "overrides", getattr(parsed, "images", None))
    late = [word for word in rest if ("=" in word or hasattr(parsed, "images")) and not word.startswith("-")]
    if len(late) < len(rest) or (late and scattered is None):
        parser.parse_args(arguments)  # which says what is wrong
    if late:
        scattered += late
    return parsed


def build_parser() -> argparse.ArgumentParser:
    from resdet import __version__

    parser = argparse.ArgumentParser(prog="resdet", description="Deep residual nets: train, evaluate, use.")
    parser.add_argument("--version", action="version", version=f"resdet {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser
