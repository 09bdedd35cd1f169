"""Arguments of `resdet parity`."""

from resdet.cli.arguments import add_command
from resdet.cli.json_output import add_json_argument


def add(commands) -> None:
    parser = add_command(commands, "parity", "compare outputs with other libraries on the same weights")
    parser.add_argument("formats", nargs="*", metavar="FORMAT", help="torchvision, timm, detectron2 (default: all)")
    add_json_argument(parser, "the table")
    parser.set_defaults(run=run)


def run(parsed) -> None:
    from resdet.commands.parity import parity

    parity(parsed.formats, parsed.json)
