"""The `resdet` command. Nothing heavy is imported before a subcommand needs it."""

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TextIO

from resdet import extension
from resdet.cli import bench, config, convert, data, evaluate, export, nets, parity, predict, reproduce, train
from resdet.cli.json_output import json_on_stdout
from resdet.errors import ConfigError, Error
from resdet.files.atomic import describe

FULL_OR_READ_ONLY = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
EPILOG = (
    "Every command takes --import MODULE: a module of yours that registers backbones, heads, formats or evaluators."
)
COMMANDS = (train, evaluate, predict, reproduce, convert, export, nets, config, data, bench, parity)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one subcommand: status 0, 2 for a user's mistake or a full disk, 1 for our mistake (with its traceback)."""
    try:
        parsed = parse(arguments)
        run(parsed)
        print(end="", flush=True)  # here and not at the interpreter's end
    except Error as error:
        return fail(str(error), 2)
    except BrokenPipeError:
        abandon(sys.stdout)  # its reader has gone, as `resdet nets | head` does
    except OSError as error:
        if error.errno not in FULL_OR_READ_ONLY:
            raise
        if not error.filename:  # so it is no file of ours
            abandon(sys.stdout)
        return fail(describe(error.filename or "the output", error), 2)
    except KeyboardInterrupt:
        return fail("interrupted", 130)
    finally:
        flush_or_abandon(sys.stderr)
    return 0


def fail(sentence: str, status: int) -> int:
    """Prints the sentence, if standard error takes it."""
    with suppress(OSError):
        print(f"resdet: {sentence}", file=sys.stderr, flush=True)
    return status


def flush_or_abandon(stream: TextIO | None) -> None:
    try:
        print(end="", file=stream, flush=True)
    except OSError:
        abandon(stream)


def abandon(stream: TextIO) -> None:
    """Leads a standard stream nowhere, so that the interpreter does not fail to flush it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def run_words(words: Sequence[str]) -> None:
    """`resdet WORDS` within this process; errors are raised."""
    run(parse(words))


def run(parsed: argparse.Namespace) -> None:
    with json_on_stdout(parsed):
        parsed.run(parsed)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """argparse takes positional words in one place alone; overrides and images may stand anywhere."""
    words, modules = split_imports(sys.argv[1:] if arguments is None else arguments)
    extension.import_modules(modules, "--import")
    extension.GIVEN[:] = modules
    parser = build_parser()
    parsed, rest = parser.parse_known_args(words)
    scattered = getattr(parsed, "overrides", getattr(parsed, "images", None))
    late = [word for word in rest if ("=" in word or hasattr(parsed, "images")) and not word.startswith("-")]
    if len(late) < len(rest) or (late and scattered is None):
        parser.parse_args(words)  # which says what is wrong
    if late:
        scattered += late
    return parsed


def split_imports(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words without `--import MODULE`, and the modules: they may register choices that the parser offers."""
    words, modules = [], []
    rest = iter(arguments)
    for word in rest:
        if word == "--import":
            modules.append(next(rest, ""))
        elif word.startswith("--import="):
            modules.append(word.partition("=")[2])
        else:
            words.append(word)
    if not all(modules):
        raise ConfigError("--import names no module: give one, as in --import my_module.")
    return words, modules


def build_parser() -> argparse.ArgumentParser:
    from resdet import __version__

    parser = argparse.ArgumentParser(
        prog="resdet", description="Deep residual nets: train, evaluate, use.", epilog=EPILOG
    )
    parser.add_argument("--version", action="version", version=f"resdet {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser
