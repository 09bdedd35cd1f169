"""Arguments of `resdet zoo`."""

from resdet.cli.arguments import add_command
from resdet.cli.json_output import add_json_argument


def add(commands) -> None:
    parser = add_command(commands, "zoo", "list the published models that --weights takes by name")
    parser.add_argument("words", nargs="*", metavar="WORD", help="list the models whose names contain all of these")
    parser.add_argument("--task", choices=["classification", "detection"], help="list the models of this task only")
    parser.add_argument("--markdown", action="store_true", help="print the page docs/zoo.md instead of the table")
    add_json_argument(parser, "name, data, metrics, size, license, address and checksum of each model")
    parser.set_defaults(run=run)


def run(parsed) -> None:
    from resdet.commands.zoo import zoo

    zoo(parsed.words, parsed.task, parsed.markdown, parsed.json)
