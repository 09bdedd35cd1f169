"""Arguments of `resdet predict`."""

import argparse

from resdet.cli.arguments import (
    add_command,
    add_device_argument,
    add_speed_arguments,
    add_tile_arguments,
    names,
    output_folder,
    positive,
    share,
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
        help="image files or their URLs, folders of images, video files, a camera (0) or the URL of a "
        "stream (rtsp://…), which Ctrl-C ends; eval.key=value overrides a setting",
    )
    parser.add_argument(
        "--classifier",
        nargs="+",
        default=[],
        metavar="FILE",
        help="classifiers that give a localizer its classes",
    )
    parser.add_argument(
        "--top", type=positive, metavar="N", help="number of classes of a classifier or localizer (default: 5)"
    )
    parser.add_argument(
        "--score", type=share, metavar="S", help="score threshold of boxes, from 0 to 1 (default: the detector's own)"
    )
    parser.add_argument(
        "--classes", type=names, default=[], metavar="A,B", help="only detections of these classes of the detector"
    )
    parser.add_argument(
        "--draw",
        type=output_folder,
        metavar="DIR",
        help="write images (JPEG) and videos (MP4, no sound) with their detections to this folder",
    )
    parser.add_argument(
        "--track",
        action="store_true",
        help="give the objects in a video, or in its frames as images, track ids (ByteTrack); --score is then the "
        "lowest score of a detection that starts a track (default: 0.5)",
    )
    add_parquet_arguments(parser)
    add_device_argument(parser)
    add_speed_arguments(parser, "fast")
    add_tile_arguments(parser)
    add_json_argument(parser, "the results")
    parser.set_defaults(run=run)


def add_parquet_arguments(parser: argparse.ArgumentParser) -> None:
    many = parser.add_argument_group(
        "many images", "folders at any depth, .tar files, .parquet files with a column of bytes, addresses of fsspec"
    )
    many.add_argument(
        "--parquet",
        type=output_folder,
        metavar="DIR",
        help="write the results to Parquet files in this folder; the same command continues a killed run; under "
        "torchrun, processes share the images",
    )
    many.add_argument("--part", type=positive, metavar="N", help="images of a Parquet file (default: 1000)")
    many.add_argument("--engine", choices=["ray"], help="predict by the actors of a Ray cluster (extra ray)")
    many.add_argument(
        "--workers", type=positive, metavar="N", help="actors of --engine ray (default: one per GPU, or 1)"
    )


def run(parsed) -> None:
    from resdet.batch_inference.program import Program
    from resdet.commands.predict import predict, sort_words

    weights, images, overrides = sort_words(parsed.weights, parsed.images)
    if not weights:
        raise ConfigError(NO_WEIGHTS)
    classifiers, images, others = sort_words(parsed.classifier, images)
    overrides += [*others, *tile_overrides(parsed)]
    program = Program(
        weights, classifiers, parsed.top, parsed.score, overrides, *speed_of(parsed, "fast"), parsed.classes
    )
    if parsed.parquet:
        return run_parquet(parsed, program, images)
    refuse_options_of_parquet(parsed)
    predict(program, images, parsed.json, parsed.draw, parsed.device or "auto", parsed.track)


def run_parquet(parsed, program, images) -> None:
    from resdet.batch_inference.folder import IMAGES

    for name in ("json", "draw"):
        if getattr(parsed, name):
            raise ConfigError(f"--{name} is for few images: leave it out, or leave out --parquet.")
    if parsed.track:
        raise ConfigError("--track is for videos, and for their frames in order: leave it out, or leave out --parquet.")
    if not images:
        raise ConfigError("No images to predict on: give image files, folders, .tar or .parquet files, or addresses.")
    if parsed.workers and not parsed.engine:
        raise ConfigError("--workers is the number of actors of a Ray cluster: add --engine ray, or leave it out.")
    size = parsed.part or IMAGES
    if parsed.engine == "ray":
        from resdet.interop import ray

        if parsed.device:
            raise ConfigError("--device is for one machine: Ray gives each of its workers a device, so leave it out.")
        ray.predict_to_parquet(program, images, parsed.parquet, size, parsed.workers)
    else:
        from resdet.batch_inference.run import predict_to_parquet

        predict_to_parquet(program, images, parsed.parquet, size, parsed.device or "auto")


def refuse_options_of_parquet(parsed) -> None:
    for name in ("part", "engine", "workers"):
        if getattr(parsed, name) is not None:
            raise ConfigError(f"--{name} is for many images: add --parquet DIR, or leave it out.")
