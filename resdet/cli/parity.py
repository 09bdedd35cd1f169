"""The words of `resdet parity`."""

from resdet.cli.json_output import add_json_argument


def add(commands) -> None:
    parser = commands.add_parser("parity", help="compare with the libraries whose weights are read and written")
    parser.add_argument("formats", nargs="*", metavar="FORMAT", help="torchvision, timm, detectron2 (default: all)")
    add_json_argument(parser, "the table")
    parser.set_defaults(run=run)


def run(parsed) -> None:
    from resdet.commands.parity import parity

    parity(parsed.formats, parsed.json)
