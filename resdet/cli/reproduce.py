"""Arguments of `resdet reproduce`."""

import argparse
from collections.abc import Sequence
from fractions import Fraction

from resdet.cli.arguments import output_folder, positive, without_overrides
from resdet.cli.json_output import add_json_argument
from resdet.errors import ConfigError


def add(commands) -> None:
    parser = commands.add_parser(
        "reproduce",
        help="reproduce the paper's tables and figures",
        description="Train and test the rows of the paper's tables and draw its figures. Interrupted runs resume.",
    )
    parser.add_argument(
        "target",
        nargs="?",
        metavar="TABLE_OR_FIGURE",
        help="table1 to table14, segmentation, figure1, 4, 6 or 7, detections_voc or detections_coco",
    )
    parser.add_argument("--row", nargs="+", default=[], metavar="NAME", help="rows of the table, or nets of the figure")
    parser.add_argument("--list", action="store_true", help="list the rows with system, metrics, cost and requirements")
    parser.add_argument("--dry-run", action="store_true", help="print the commands and their cost without running them")
    parser.add_argument("--smoke", action="store_true", help="run in miniature on generated data")
    parser.add_argument(
        "--scale",
        type=fraction,
        default=Fraction(1),
        metavar="FRACTION",
        help="multiply all training lengths, such as 1/8; the results are named so, and not compared with the paper's",
    )
    parser.add_argument("--data", default="datasets", metavar="DIR", help="folder of the data sets (default: datasets)")
    parser.add_argument(
        "--out",
        type=output_folder,
        metavar="DIR",
        help="folder of all runs (default: runs/reproduce, runs/reproduce_smoke, or runs/reproduce_scale_1_8)",
    )
    parser.add_argument(
        "--use", nargs="+", default=[], metavar="TRAINING=FILE", help="use these weights instead of training"
    )
    parser.add_argument(
        "--processes", type=positive, metavar="N", help="number of training processes, started by torchrun"
    )
    parser.add_argument(
        "--mode", choices=["fast", "exact"], default="exact", help="mode of the evaluations (default: exact)"
    )
    add_json_argument(parser, "the rows, the plan of --dry-run, or the metrics")
    parser.add_argument(
        "overrides", nargs="*", metavar="section.key=value", help="override settings of every training and test"
    )
    parser.set_defaults(run=run)


def run(parsed) -> None:
    from pathlib import Path

    from resdet.commands import reproduce
    from resdet.reproduce.plan import Setting

    if parsed.target and "=" in parsed.target:
        parsed.overrides.insert(0, parsed.target)
        parsed.target = None
    if not (parsed.target or parsed.list or parsed.dry_run or parsed.smoke):
        raise ConfigError("Nothing to reproduce: name a table or figure, such as table6 or figure6; see --list.")
    used, overrides = without_overrides(parsed.use)
    names, others = without_overrides(parsed.row)
    given = reproduce.parse_given(used)
    if parsed.smoke and parsed.scale != 1:
        raise ConfigError("--smoke has lengths of its own: give it without --scale.")
    out = parsed.out or default_folder(parsed.smoke, parsed.scale)
    setting = Setting(
        Path(out),
        Path(parsed.data),
        given,
        (*parsed.overrides, *overrides, *others),
        parsed.smoke,
        parsed.processes or 1,
        parsed.mode,
        parsed.scale,
    )
    if parsed.list:
        return reproduce.list_rows(parsed.target, names, setting, parsed.json)
    rows, figures = reproduce.choose(parsed.target, names)
    launch = reproduce.in_processes if parsed.processes else in_this_process
    reproduce.reproduce(rows, figures, setting, launch, parsed.dry_run, parsed.json)


def default_folder(smoke: bool, scale: Fraction) -> str:
    if smoke:
        return "runs/reproduce_smoke"
    return "runs/reproduce" if scale == 1 else f"runs/reproduce_scale_{scale.numerator}_{scale.denominator}"


def fraction(text: str) -> Fraction:
    """argparse `type` for a fraction above 0 and at most 1, such as 1/8 or 0.125."""
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"{text} is not a fraction: give one such as 1/8") from None
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1: give a fraction such as 1/8")
    return value


def in_this_process(words: Sequence[str], processes: int = 1) -> None:
    from resdet.cli import run_words

    run_words(words)
