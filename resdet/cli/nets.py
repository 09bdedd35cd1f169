"""Arguments of `resdet nets`."""

from resdet.cli.arguments import add_command
from resdet.cli.json_output import add_json_argument


def add(commands) -> None:
    parser = add_command(commands, "nets", "list the backbones with parameters and multiply-adds")
    parser.add_argument("names", nargs="*", metavar="NAME", help="backbones to list (default: all)")
    add_json_argument(parser, "the list")
    parser.set_defaults(run=run)


def run(parsed) -> None:
    from resdet.commands.nets import nets

    nets(parsed.names, parsed.json)
