"""The `resdet` command. Each subcommand imports torch and other heavy packages only when it runs."""

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from typing import TextIO

from resdet import extension
from resdet.cli import (
    bench,
    completion,
    config,
    convert,
    data,
    evaluate,
    export,
    help,
    nets,
    parity,
    predict,
    report,
    reproduce,
    serve,
    train,
    unknown,
    zoo,
)
from resdet.cli.json_output import json_on_stdout
from resdet.errors import ConfigError, Error
from resdet.files.atomic import describe
from resdet.progress import DISPLAY
from resdet.system import INTERRUPTED, keep_to_quota

FULL_OR_READ_ONLY = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
COMMANDS = (
    *(train, evaluate, predict, report),
    data,
    *(serve, export, convert),
    *(reproduce, bench, parity),
    *(nets, zoo, config, completion),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a subcommand. Exit status: 0; 1 from `data check --strict`; 2 for a user error or a full disk; 130 if
    interrupted; bugs raise."""
    keep_to_quota()
    try:
        parsed = parse(arguments)
        status = run(parsed)
        print(end="", flush=True)  # flush here, where errors are caught, and not at interpreter exit
    except Error as error:
        return fail(str(error), 2)
    except BrokenPipeError:
        abandon(sys.stdout)  # the reader closed the pipe, as in `resdet nets | head`
        return 0
    except OSError as error:
        if error.errno not in FULL_OR_READ_ONLY:
            raise
        if not error.filename:  # the error concerns stdout, not a file
            abandon(sys.stdout)
        return fail(describe(error.filename or "the output", error), 2)
    except KeyboardInterrupt:
        return fail("interrupted", INTERRUPTED)
    finally:
        flush_or_abandon(sys.stderr)
    return status


def fail(sentence: str, status: int) -> int:
    """Prints the message to stderr if possible; returns the status."""
    with suppress(OSError):
        print(f"resdet: {sentence}", file=sys.stderr, flush=True)
    return status


def flush_or_abandon(stream: TextIO | None) -> None:
    try:
        print(end="", file=stream, flush=True)
    except OSError:
        abandon(stream)


def abandon(stream: TextIO | None) -> None:
    """Redirects a standard stream to /dev/null, so that the flush at interpreter exit cannot fail."""
    if stream:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def run_words(words: Sequence[str]) -> None:
    """Runs `resdet WORDS` in this process; errors propagate."""
    run(parse(words))


def run(parsed: argparse.Namespace) -> int:
    """Runs the command and returns its exit status; 0 for commands that return none."""
    with json_on_stdout(parsed), closing(DISPLAY):
        return parsed.run(parsed) or 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parses the command line. Overrides and images may appear anywhere; argparse accepts positionals only once."""
    words, modules = split_imports(sys.argv[1:] if arguments is None else arguments)
    extension.import_modules(modules, "--import")
    extension.GIVEN[:] = modules
    parser = build_parser()
    unknown.refuse_options(parser, words)
    parsed, rest = parser.parse_known_args(words)
    scattered: list[str] | None = getattr(parsed, "overrides", getattr(parsed, "images", None))
    late = [word for word in rest if ("=" in word or hasattr(parsed, "images")) and not word.startswith("-")]
    if len(late) < len(rest) or (late and scattered is None):
        unknown.refuse(parser, words, ([word for word in rest if word not in late] or late)[0])
    if scattered is not None:
        scattered += late
    return parsed


def split_imports(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits the words from the modules of `--import MODULE`, which may register choices for the parser."""
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

    parser = help.Parser(
        prog="resdet",
        usage="resdet COMMAND …",
        description=f"Train, evaluate, run and export residual nets and detectors.\n\n{help.overview()}",
        epilog="`resdet COMMAND --help` lists the options of a command. Every command takes --import MODULE,\n"
        "a module that registers your own backbones, heads, data formats, evaluators or tasks.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"resdet {__version__}")
    commands = parser.add_subparsers(prog="resdet", required=True, metavar="COMMAND", help=argparse.SUPPRESS)
    for command in COMMANDS:
        command.add(commands)
    help.add_examples(commands.choices)
    return parser
