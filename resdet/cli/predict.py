"""The words of `resdet predict`."""

from resdet.cli.arguments import output_folder
from resdet.cli.json_output import add_json_argument


def add(commands) -> None:
    parser = commands.add_parser("predict", help="use a checkpoint on images")
    parser.add_argument(
        "--weights", required=True, nargs="+", metavar="FILE", help="several detectors, or localizers, are an ensemble"
    )
    parser.add_argument(
        "images", nargs="*", metavar="IMAGE_OR_FOLDER", help="eval.key=value among them sets how it is tested"
    )
    parser.add_argument(
        "--classifier", nargs="+", default=[], metavar="FILE", help="a localizer's: nets that predict the classes"
    )
    parser.add_argument(
        "--top", type=int, help="a classifier's: classes to show, or a localizer's: to look for (default: 5)"
    )
    parser.add_argument("--score", type=float, help="least score of boxes that are shown (default: a detector's own)")
    parser.add_argument(
        "--draw", type=output_folder, metavar="DIR", help="write the images there, with the boxes that were found"
    )
    add_json_argument(parser, "the results")
    parser.set_defaults(run=run)


def run(parsed) -> None:
    from resdet.commands.predict import predict, sorted_words

    weights, images, overrides = sorted_words(parsed.weights, parsed.images)
    classifiers, images, others = sorted_words(parsed.classifier, images)
    overrides += others
    predict(weights, images, parsed.top, parsed.score, parsed.json, parsed.draw, overrides, classifiers)
