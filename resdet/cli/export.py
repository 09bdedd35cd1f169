"""The words of `resdet export`."""


def add(commands) -> None:
    parser = commands.add_parser("export", help="write a model for onnxruntime or torch.export")
    parser.add_argument("weights", metavar="FILE", help="a checkpoint, or a published model's name")
    parser.add_argument("--to", required=True, choices=["onnx", "torch-export"])
    parser.add_argument("--out", metavar="FILE", help="the file to write (default: beside the checkpoint)")
    parser.add_argument("--shape", metavar="HxW", help="of its images, as 800x1344 (default: the model's test size)")
    parser.add_argument("--dynamic-batch", action="store_true", help="any number of images at once, instead of one")
    parser.add_argument("--nms", choices=["inside", "outside"], default="inside", help="the last suppression of boxes")
    parser.add_argument("--masks", choices=["inside", "outside"], default="outside", help="where they are pasted")
    parser.add_argument("--image", metavar="FILE", help="to check the file on (default: a generated photograph)")
    parser.add_argument("--int8", action="store_true", help="write a quantized ONNX file as well; with --calibrate")
    parser.add_argument("--calibrate", metavar="FOLDER_OR_CONFIG", help="images that int8's ranges are taken from")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings over those of the config")
    parser.set_defaults(run=run)


def run(parsed) -> None:
    from resdet.commands.export import export, parse_shape
    from resdet.export.form import Form

    form = Form(parse_shape(parsed.shape), parsed.dynamic_batch, parsed.nms, parsed.masks)
    export(parsed.weights, parsed.to, parsed.out, form, parsed.image, parsed.int8, parsed.calibrate, parsed.overrides)
