"""Arguments of `resdet predict`."""

from resdet.cli.arguments import (
    add_command,
    add_speed_arguments,
    add_tile_arguments,
    output_folder,
    speed_of,
    tile_overrides,
)
from resdet.cli.json_output import add_json_argument
from resdet.errors import ConfigError

NO_WEIGHTS = (
    "No weights: give --weights FILE, or a published detector, as --weights torchvision/maskrcnn_resnet50_fpn_v2; "
    "`resdet zoo` lists more."
)


def add(commands) -> None:
    parser = add_command(commands, "predict", "predict on images, videos and cameras")
    parser.add_argument(
        "--weights",
        nargs="+",
        default=[],
        metavar="FILE",
        help="a checkpoint, or several detectors or localizers as an ensemble; or a published model, as "
        "torchvision/maskrcnn_resnet50_fpn_v2 (see `resdet zoo`)",
    )
    parser.add_argument(
        "images",
        nargs="*",
        metavar="IMAGE",
        help="image files, folders of images, video files, a camera (0) or the URL of a stream (rtsp://…), which "
        "Ctrl-C ends; eval.key=value overrides a setting",
    )
    parser.add_argument(
        "--classifier",
        nargs="+",
        default=[],
        metavar="FILE",
        help="classifiers that give a localizer its classes",
    )
    parser.add_argument(
        "--top", type=int, metavar="N", help="number of classes of a classifier or localizer (default: 5)"
    )
    parser.add_argument(
        "--score", type=float, metavar="S", help="score threshold of boxes (default: the detector's own)"
    )
    parser.add_argument(
        "--draw",
        type=output_folder,
        metavar="DIR",
        help="write images (JPEG) and videos (MP4, no sound) with their detections to this folder",
    )
    add_speed_arguments(parser, "fast")
    add_tile_arguments(parser)
    add_json_argument(parser, "the results")
    parser.set_defaults(run=run)


def run(parsed) -> None:
    if not parsed.weights:
        raise ConfigError(NO_WEIGHTS)

    from resdet.commands.predict import predict, sort_words

    weights, images, overrides = sort_words(parsed.weights, parsed.images)
    classifiers, images, others = sort_words(parsed.classifier, images)
    overrides += [*others, *tile_overrides(parsed)]
    predict(
        weights,
        images,
        parsed.top,
        parsed.score,
        parsed.json,
        parsed.draw,
        overrides,
        classifiers,
        *speed_of(parsed, "fast"),
    )
