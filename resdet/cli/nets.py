"""The words of `resdet nets`."""

from resdet.cli.json_output import add_json_argument


def add(commands) -> None:
    parser = commands.add_parser("nets", help="list the backbones with their sizes")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these")
    add_json_argument(parser, "the figures")
    parser.set_defaults(run=run)


def run(parsed) -> None:
    from resdet.commands.nets import nets

    nets(parsed.names, parsed.json)
