"""The words of `resdet convert`."""


def add(commands) -> None:
    parser = commands.add_parser("convert", help="write a model's weights as another library's file")
    parser.add_argument("weights", metavar="FILE", help="a checkpoint of any known layout, or a published model's name")
    parser.add_argument("--to", required=True, choices=["torchvision", "timm", "detectron2", "safetensors"])
    parser.add_argument("--out", metavar="FILE", help="the file to write (default: beside the other one)")
    parser.set_defaults(run=run)


def run(parsed) -> None:
    from resdet.commands.convert import convert

    convert(parsed.weights, parsed.to, parsed.out)
