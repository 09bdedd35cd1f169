"""Arguments shared by several commands."""

import argparse
import csv
import math
from collections.abc import Sequence
from typing import Any

from resdet.cli.help import Parser
from resdet.errors import ConfigError
from resdet.files.atomic import check_file, check_folder


class Paragraphs(argparse.HelpFormatter):
    """Wraps each paragraph of a text separately; argparse joins them."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n\n".join(super(Paragraphs, self)._fill_text(each, width, indent) for each in text.split("\n\n"))


def add_command(commands, name: str, summary: str) -> Parser:
    description = f"{summary[0].upper()}{summary[1:]}."
    return commands.add_parser(name, help=summary, description=description, formatter_class=Paragraphs)


def add_config_arguments(parser: argparse.ArgumentParser, required: bool = True) -> None:
    parser.add_argument(
        "--config", required=required, metavar="NAME_OR_PATH", help="a YAML file, or its name in configs/"
    )
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="override settings of the config")


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda or cuda:N (default: the GPU, if there is one)")


def add_speed_arguments(parser: argparse.ArgumentParser, mode: str) -> None:
    parser.add_argument(
        "--mode",
        choices=["fast", "exact"],
        help="fast: folded norms, bf16 if the device supports it, packed convolutions on a CPU, compiled on a "
        f"GPU when that pays; exact: float32, as in the library of the weights (default: {mode})",
    )
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="in fast mode: compile at the first image, or never (default: on a GPU, after many images)",
    )


def add_tile_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tile", metavar="PIXELS", help="also detect in overlapping square tiles of this size (sets eval.tile)"
    )
    parser.add_argument(
        "--overlap",
        metavar="SHARE",
        help="minimum overlap of neighboring tiles, as a share of their side (sets eval.overlap; default: 0.2)",
    )


def speed_of(parsed: argparse.Namespace, mode: str) -> tuple[Any, Any]:
    """Returns the mode, by default `mode`, and whether to compile; refuses --compile in exact mode."""
    chosen = parsed.mode or mode
    if chosen == "exact" and parsed.compile is not None:
        raise ConfigError("--compile and --no-compile are for fast mode: add --mode fast, or leave them out.")
    return chosen, "auto" if parsed.compile is None else parsed.compile


def tile_overrides(parsed: argparse.Namespace) -> list[str]:
    if parsed.overlap is not None and parsed.tile is None:
        raise ConfigError("--overlap is for tiles: add --tile PIXELS, or set eval.tile and eval.overlap.")
    return [f"eval.{key}={value}" for key in ("tile", "overlap") if (value := getattr(parsed, key)) is not None]


def names(text: str) -> list[str]:
    """argparse `type` for comma-separated names; names with commas are in double quotes, as in a CSV file."""
    try:
        row = next(csv.reader([text], skipinitialspace=True))
    except csv.Error as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a list of names ({error}): give names between commas"
        ) from None
    listed = [name.strip() for name in row if name.strip()]
    if not listed:
        raise argparse.ArgumentTypeError(f"{text!r} has no name: give names between commas, or leave it out")
    return listed


def without_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits the values of an option with nargs="+" into its values and the overrides that argparse appends to them."""
    from resdet.config import is_override

    overrides = [word for word in words if is_override(word)]
    return [word for word in words if word not in overrides], overrides


def positive(text: str) -> int:
    """argparse `type` for an integer above 0."""
    return int(bounded(int, text, 1))


def natural(text: str) -> int:
    """argparse `type` for an integer of at least 0."""
    return int(bounded(int, text, 0))


def not_negative(text: str) -> float:
    """argparse `type` for a number of at least 0."""
    return bounded(float, text, 0)


def share(text: str) -> float:
    """argparse `type` for a number from 0 to 1."""
    return bounded(float, text, 0, 1)


def bounded(kind: type[int] | type[float], text: str, least: float, most: float = math.inf) -> float:
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not (least <= value <= most and math.isfinite(value)):
        number = "whole number" if kind is int else "number"
        limits = f"of {least:g} or more" if most == math.inf else f"from {least:g} to {most:g}"
        raise argparse.ArgumentTypeError(f"{text} is not a {number} {limits}")
    return value


def output_file(text: str) -> str:
    """argparse `type` for an output file; refuses a path that cannot be written before any work is done."""
    check_file(text)
    return text


def output_folder(text: str) -> str:
    """argparse `type` for an output folder; refuses a path that cannot be written."""
    check_folder(text)
    return text
