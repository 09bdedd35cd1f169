"""Arguments of `resdet report`."""

import argparse

from resdet.cli.arguments import add_command, output_file, without_overrides
from resdet.cli.json_output import STDOUT, add_json_argument


def add(commands) -> None:
    parser = add_command(commands, "report", "evaluate a run, or compare several, in one HTML file")
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="folder of a run of `resdet train`, evaluated on its validation data; several runs of a task are "
        "compared with the first",
    )
    overrides = "override settings of the configs"
    parser.add_argument("overrides", nargs="*", default=[], metavar="section.key=value", help=overrides)
    parser.add_argument(
        "--out",
        type=output_file,
        metavar="FILE",
        help="HTML file (default: report.html in the run; of a comparison, comparison.html in the last run)",
    )
    parser.add_argument(
        "--precision",
        type=precision,
        metavar="P",
        help="choose the score threshold with the highest recall at this precision (default: the highest F1)",
    )
    add_json_argument(parser, "the content")
    parser.add_argument(
        "--markdown",
        nargs="?",
        const=STDOUT,
        type=markdown_file,
        metavar="FILE",
        help="write the tables as Markdown to FILE; with `-` or no FILE, print them",
    )
    parser.set_defaults(run=run)


def precision(text: str) -> float:
    """argparse `type` for a precision, above 0 and at most 1."""
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a precision: give a number above 0, up to 1, such as 0.9.")
    return value


def markdown_file(text: str) -> str:
    """argparse `type` for --markdown; refuses a folder, such as a run after a bare `--markdown`."""
    return text if text == STDOUT else output_file(text)


def run(parsed) -> None:
    from resdet.commands.report import report

    folders, overrides = without_overrides(parsed.runs)
    report(folders, [*overrides, *parsed.overrides], parsed.out, parsed.json, parsed.markdown, parsed.precision)
