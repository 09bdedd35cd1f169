"""Arguments of `resdet export`."""

from resdet.cli.arguments import add_command
from resdet.cli.json_output import add_json_argument


def add(commands) -> None:
    parser = add_command(commands, "export", "export a model to ONNX, OpenVINO or torch.export")
    parser.add_argument("weights", metavar="FILE", help="a checkpoint, or a published model's name")
    parser.add_argument("--to", required=True, choices=["onnx", "openvino", "torch-export"], help="output format")
    parser.add_argument("--out", metavar="FILE", help="output file (default: next to the checkpoint); OpenVINO: .xml")
    parser.add_argument("--shape", metavar="HxW", help="input shape, as 800x1344 (default: the model's test size)")
    parser.add_argument("--dynamic-batch", action="store_true", help="export a dynamic batch size (default: one image)")
    place = "inside the graph or after it (default: {})".format
    sides = ["inside", "outside"]
    parser.add_argument("--nms", choices=sides, default="inside", help=f"run the final NMS {place('inside')}")
    parser.add_argument("--masks", choices=sides, default="outside", help=f"paste masks {place('outside')}")
    parser.add_argument("--image", metavar="FILE", help="image to verify the file on (default: a generated one)")
    parser.add_argument(
        "--int8", action="store_true", help="also write a quantized file (not for torch-export); needs --calibrate"
    )
    parser.add_argument("--calibrate", metavar="FOLDER_OR_CONFIG", help="images to calibrate int8 ranges on")
    parser.add_argument(
        "overrides",
        nargs="*",
        default=[],
        metavar="section.key=value",
        help="override settings of the --calibrate config",
    )
    add_json_argument(parser, "agreement, latencies and the cost of int8")
    parser.set_defaults(run=run)


def run(parsed) -> None:
    from resdet.commands.export import export, parse_shape
    from resdet.export.form import Form

    form = Form(parse_shape(parsed.shape), parsed.dynamic_batch, parsed.nms, parsed.masks)
    int8 = (parsed.int8, parsed.calibrate, parsed.overrides)
    export(parsed.weights, parsed.to, parsed.out, form, parsed.image, *int8, parsed.json)
