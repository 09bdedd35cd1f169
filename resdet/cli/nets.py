"""The words of `resdet nets`."""

from resdet.cli.arguments import output_file


def add(commands) -> None:
    parser = commands.add_parser("nets", help="list the backbones with their sizes")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these")
    parser.add_argument("--json", type=output_file, metavar="FILE", help="write the figures there, too")
    parser.set_defaults(run=run)


def run(parsed) -> None:
    from resdet.commands.nets import nets

    nets(parsed.names, parsed.json)
