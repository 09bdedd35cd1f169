"""Arguments of `resdet data convert|split|merge|subset|label|shard|show`."""

import argparse

from resdet.cli.arguments import (
    add_command,
    add_device_argument,
    add_speed_arguments,
    add_tile_arguments,
    names,
    natural,
    not_negative,
    output_file,
    output_folder,
    positive,
    share,
    speed_of,
    tile_overrides,
)
from resdet.cli.json_output import add_json_argument
from resdet.files.atomic import write_json

WRITTEN = "the numbers of images and objects, and what was left out,"
SOURCE = "folder of images and annotations, in any format"
FORMATS = ["coco", "yolo", "voc"]  # to write


def add(actions) -> None:
    for add_action in (add_convert, add_split, add_merge, add_subset, add_label, add_shard, add_show):
        add_action(actions)


def add_convert(actions) -> None:
    convert = add_command(actions, "convert", "write a data set in another annotation format")
    convert.add_argument("source", metavar="SRC", help=SOURCE)
    add_target(convert)
    convert.add_argument("--to", required=True, choices=FORMATS, help="format to write")
    convert.add_argument("--from", dest="name", metavar="FORMAT", help="format of SRC (default: recognized by content)")
    add_json_argument(convert, WRITTEN)
    convert.set_defaults(run=run_convert)


def add_split(actions) -> None:
    split = add_command(actions, "split", "make a validation split of a data set that has none")
    split.add_argument("root", metavar="ROOT", help=SOURCE)
    split.add_argument(
        "--val", type=split_share, metavar="SHARE", default=0.2, help="share of the images (default: 0.2)"
    )
    split.add_argument("--seed", type=natural, metavar="N", default=0, help="random seed (default: 0)")
    add_json_argument(split, "the numbers of images by split and class")
    split.set_defaults(run=run_split)


def add_merge(actions) -> None:
    merge = add_command(actions, "merge", "write several data sets as one COCO data set, with classes merged by name")
    merge.add_argument("sources", nargs="+", metavar="SRC", help=SOURCE)
    add_target(merge)
    add_json_argument(merge, WRITTEN)
    merge.set_defaults(run=run_merge)


def add_subset(actions) -> None:
    subset = add_command(actions, "subset", "write a part of a data set")
    subset.add_argument("source", metavar="SRC", help=SOURCE)
    add_target(subset)
    subset.add_argument("--classes", type=names, metavar="A,B", default=[], help="only these classes and their images")
    subset.add_argument("--count", type=positive, metavar="N", help="number of images of each split")
    subset.add_argument(
        "--min-size", type=not_negative, metavar="PIXELS", default=0, help="minimum width and height of objects"
    )
    add_json_argument(subset, WRITTEN)
    subset.set_defaults(run=run_subset)


def add_label(actions) -> None:
    label = add_command(actions, "label", "annotate images with a detector's predictions, for correction by hand")
    label.add_argument("source", metavar="SRC", help="folder of images, at any depth")
    add_target(label)
    label.add_argument(
        "--weights", nargs="+", required=True, metavar="FILE", help="a detector, or several as an ensemble"
    )
    label.add_argument("--to", choices=FORMATS, default="coco", help="format to write (default: coco)")
    label.add_argument(
        "--score", type=share, metavar="S", default=0.5, help="score threshold, from 0 to 1 (default: 0.5)"
    )
    label.add_argument("--classes", type=names, metavar="A,B", default=[], help="only objects of these classes")
    add_device_argument(label)
    add_speed_arguments(label, "fast")
    add_tile_arguments(label)
    add_json_argument(label, WRITTEN)
    label.set_defaults(run=run_label)


def add_shard(actions) -> None:
    shard = add_command(actions, "shard", "write a data set of detection or classification as WebDataset tar files")
    shard.add_argument("source", metavar="SRC", help="folder of images and annotations, or with one folder per class")
    add_target(shard)
    sizes = shard.add_mutually_exclusive_group()
    sizes.add_argument("--images-per-shard", type=positive, metavar="N", help="number of images of a tar file")
    sizes.add_argument(
        "--shard-size", type=positive, metavar="MB", default=256, help="size of a tar file in megabytes (default: 256)"
    )
    shard.add_argument("--task", choices=["detection", "classification"], help="task (default: recognized by content)")
    add_json_argument(shard, "the numbers of images and shards, and what was left out,")
    shard.set_defaults(run=run_shard)


def add_show(actions) -> None:
    show = add_command(actions, "show", "draw images and their annotations on a contact sheet")
    show.add_argument("root", metavar="ROOT", help=SOURCE)
    show.add_argument("--out", type=output_file, metavar="FILE", default="sheet.png", help="image (default: sheet.png)")
    show.add_argument("--count", type=positive, metavar="N", default=16, help="number of images (default: 16)")
    add_json_argument(show, "the format and the files of the images")
    show.set_defaults(run=run_show)


def add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="DST", type=output_folder, help="new folder")


def split_share(text: str) -> float:
    """argparse `type` for the share of a split, above 0 and below 1."""
    if not 0 < float(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} leaves a split without images: give a share above 0 and below 1")
    return float(text)


def run_convert(parsed) -> None:
    from resdet.commands.data_sets import convert

    write_json(parsed.json, convert(parsed.source, parsed.target, parsed.to, parsed.name))


def run_split(parsed) -> None:
    from resdet.commands.data_sets import split

    write_json(parsed.json, split(parsed.root, parsed.val, parsed.seed))


def run_merge(parsed) -> None:
    from resdet.commands.data_sets import merge

    write_json(parsed.json, merge(parsed.sources, parsed.target))


def run_subset(parsed) -> None:
    from resdet.commands.data_sets import subset

    write_json(parsed.json, subset(parsed.source, parsed.target, parsed.classes, parsed.count, parsed.min_size))


def run_label(parsed) -> None:
    from resdet.batch_inference.program import Program
    from resdet.commands.label import label

    speed = speed_of(parsed, "fast")
    program = Program(parsed.weights, (), None, parsed.score, tile_overrides(parsed), *speed, parsed.classes)
    write_json(parsed.json, label(program, parsed.source, parsed.target, parsed.to, parsed.device or "auto"))


def run_shard(parsed) -> None:
    from resdet.commands.shard import shard
    from resdet.data.shards import Limit

    limit = Limit(parsed.images_per_shard, parsed.shard_size * 10**6)
    write_json(parsed.json, shard(parsed.source, parsed.target, limit, parsed.task))


def run_show(parsed) -> None:
    from resdet.commands.data_sets import show

    write_json(parsed.json, show(parsed.root, parsed.out, parsed.count))
