"""Arguments of `resdet convert`."""

from resdet.cli.arguments import add_command


def add(commands) -> None:
    parser = add_command(commands, "convert", "convert weights to another library's format")
    parser.add_argument(
        "weights", metavar="FILE", help="a checkpoint of any supported library, or a published model's name"
    )
    parser.add_argument(
        "--to", required=True, choices=["torchvision", "timm", "detectron2", "safetensors"], help="output format"
    )
    parser.add_argument("--out", metavar="FILE", help="output file (default: next to the input)")
    parser.set_defaults(run=run)


def run(parsed) -> None:
    from resdet.commands.convert import convert

    convert(parsed.weights, parsed.to, parsed.out)
