"""The `resdet` command. Nothing heavy is imported before a subcommand needs it."""

import argparse
import os
import sys
from typing import Optional, Sequence

from resdet.errors import Error


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Runs one subcommand: status 0, 2 for a user's mistake, 1 for ours (with its traceback)."""
    parsed = parse(arguments)
    try:
        parsed.run(parsed)
    except Error as error:
        print(f"resdet: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of our output has gone, as `resdet nets | head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print("resdet: interrupted", file=sys.stderr)
        return 130
    return 0


def parse(arguments: Optional[Sequence[str]]) -> argparse.Namespace:
    """argparse takes positional words in one place alone; overrides and images may stand anywhere."""
    parser = build_parser()
    parsed, rest = parser.parse_known_args(arguments)
    scattered = getattr(parsed, "overrides", getattr(parsed, "images", None))
    late = [word for word in rest if ("=" in word or hasattr(parsed, "images")) and not word.startswith("-")]
    if len(late) < len(rest) or (late and scattered is None):
        parser.parse_args(arguments)  # which says what is wrong
    if late:
        scattered += late
    return parsed


def build_parser() -> argparse.ArgumentParser:
    from resdet import __version__

    parser = argparse.ArgumentParser(prog="resdet", description="Deep residual nets: train, evaluate, use.")
    parser.add_argument("--version", action="version", version=f"resdet {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add in (
        add_train,
        add_evaluate,
        add_predict,
        add_convert,
        add_export,
        add_nets,
        add_config,
        add_data,
        add_bench,
        add_parity,
        add_reproduce,
    ):
        add(commands)
    return parser


def add_config_arguments(parser: argparse.ArgumentParser, required: bool = True) -> None:
    parser.add_argument(
        "--config", required=required, metavar="NAME_OR_PATH", help="a YAML file, or its name in configs/"
    )
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings over those of the config")


def add_train(commands) -> None:
    parser = commands.add_parser("train", help="train a model", description="Trains the experiment of a config.")
    add_config_arguments(parser)
    parser.add_argument(
        "--out", metavar="DIR", help="folder of the run (default: runs/NAME, or the next free runs/NAME-2 …)"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from the last checkpoint in the folder, if there is one"
    )
    parser.add_argument(
        "--init", metavar="WEIGHTS", help="start from these weights; a classifier of another size starts anew"
    )
    parser.add_argument("--eval-only", action="store_true", help="only judge the weights of --init")
    parser.set_defaults(run=run_train)


def run_train(parsed) -> None:
    from resdet import config

    experiment = config.load(parsed.config, *parsed.overrides)  # a mistake in it does not wait for torch

    from resdet.commands.train import train

    train(experiment, parsed.out, parsed.resume, parsed.init, parsed.eval_only)


def add_evaluate(commands) -> None:
    parser = commands.add_parser("evaluate", help="judge checkpoints on a validation set, or a file of detections")
    parser.add_argument("--weights", nargs="+", metavar="FILE", help="a checkpoint, or several as an ensemble")
    add_config_arguments(parser, required=False)
    parser.add_argument("--per-class", action="store_true", help="print a table with the figures of each class")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    parser.add_argument(
        "--submission",
        metavar="FILE",
        help="write the test server's file instead: ILSVRC's, VOC's (.tar.gz; comp3… for comp3, else comp4), COCO's "
        "(detections_test-dev2015_NAME_results.json or .zip)",
    )
    parser.add_argument(
        "--classifier", nargs="+", default=[], metavar="FILE", help="a localizer's: nets that predict the classes"
    )
    detections = parser.add_argument_group("detections, of a checkpoint or of anybody's results file")
    detections.add_argument("--save", metavar="JSON", help="keep a detector's detections as a COCO results file")
    detections.add_argument("--annotations", metavar="JSON", help="ground truth in COCO's format; with --results")
    detections.add_argument("--results", metavar="JSON", help="detections in COCO's results format, to be judged")
    detections.add_argument("--type", choices=["bbox", "segm"], default="bbox", help="boxes or masks (default: bbox)")
    detections.add_argument(
        "--protocol",
        choices=["coco", "voc07", "voc_area", "ilsvrc_det"],
        default="coco",
        help="whose rules (default: coco)",
    )
    detections.add_argument("--engine", choices=["hotcoco", "pycocotools"], default="hotcoco")
    detections.add_argument("--curves", action="store_true", help="precision over recall of each class")
    detections.add_argument("--confusion", action="store_true", help="which class is taken for which, and other errors")
    parser.set_defaults(run=run_evaluate)


def run_evaluate(parsed) -> None:
    from resdet import config
    from resdet.errors import ConfigError

    if parsed.results or parsed.annotations:
        return run_evaluate_results(parsed)
    if not parsed.weights:
        raise ConfigError("Nothing to judge: give --weights, or --annotations and --results.")
    # Overrides after `--weights a.pth b.pth` are read by argparse as more weights.
    weights, classifiers = (
        [word for word in words if "=" not in word] for words in (parsed.weights, parsed.classifier)
    )
    overrides = [*parsed.overrides, *(word for word in (*parsed.weights, *parsed.classifier) if "=" in word)]
    experiment = config.load(parsed.config, *overrides) if parsed.config else None

    from resdet.commands.evaluate import evaluate

    evaluate(weights, experiment, overrides, parsed.per_class, parsed.json, parsed.submission, parsed.save, classifiers)


def run_evaluate_results(parsed) -> None:
    from resdet.errors import ConfigError

    if not (parsed.results and parsed.annotations) or parsed.weights:
        raise ConfigError(
            "--annotations and --results belong together, without --weights: ground truth and detections."
        )

    from resdet.commands.evaluate_results import evaluate_results

    evaluate_results(
        parsed.annotations,
        parsed.results,
        parsed.type,
        parsed.per_class,
        parsed.curves,
        parsed.confusion,
        parsed.json,
        parsed.engine,
        parsed.protocol,
    )


def add_predict(commands) -> None:
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
        "--top", type=int, default=5, help="a classifier's: classes to show, or to look for (default: 5)"
    )
    parser.add_argument("--score", type=float, help="least score of boxes that are shown (default: a detector's own)")
    parser.add_argument("--draw", metavar="DIR", help="write the images there, with the boxes that were found")
    parser.add_argument("--json", metavar="FILE", help="write the results there")
    parser.set_defaults(run=run_predict)


def run_predict(parsed) -> None:
    from resdet.commands.predict import predict, sorted_words

    weights, images, overrides = sorted_words(parsed.weights, parsed.images)
    classifiers, images, others = sorted_words(parsed.classifier, images)
    overrides += others
    predict(weights, images, parsed.top, parsed.score, parsed.json, parsed.draw, overrides, classifiers)


def add_convert(commands) -> None:
    parser = commands.add_parser("convert", help="write a model's weights as another library's file")
    parser.add_argument("weights", metavar="FILE", help="a checkpoint of any known layout, or a published model's name")
    parser.add_argument("--to", required=True, choices=["torchvision", "timm", "detectron2", "safetensors"])
    parser.add_argument("--out", metavar="FILE", help="the file to write (default: beside the other one)")
    parser.set_defaults(run=run_convert)


def run_convert(parsed) -> None:
    from resdet.commands.convert import convert

    convert(parsed.weights, parsed.to, parsed.out)


def add_export(commands) -> None:
    parser = commands.add_parser("export", help="write a model for onnxruntime or torch.export")
    parser.add_argument("weights", metavar="FILE", help="a checkpoint, or a published model's name")
    parser.add_argument("--to", required=True, choices=["onnx", "torch-export"])
    parser.add_argument("--out", metavar="FILE", help="the file to write (default: beside the checkpoint)")
    parser.add_argument("--shape", metavar="HxW", help="of its images, as 800x1344 (default: the model's test size)")
    parser.add_argument("--dynamic-batch", action="store_true", help="any number of images at once, instead of one")
    parser.add_argument("--nms", choices=["inside", "outside"], default="inside", help="the last suppression of boxes")
    parser.add_argument("--masks", choices=["inside", "outside"], default="outside", help="where they are pasted")
    parser.add_argument("--image", metavar="FILE", help="to check the file on (default: a generated photograph)")
    parser.add_argument("--int8", action="store_true", help="write a quantised ONNX file as well; with --calibrate")
    parser.add_argument("--calibrate", metavar="FOLDER_OR_CONFIG", help="images that int8's ranges are taken from")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings over those of the config")
    parser.set_defaults(run=run_export)


def run_export(parsed) -> None:
    from resdet.commands.export import export, parse_shape
    from resdet.export.graphs import Form

    form = Form(parse_shape(parsed.shape), parsed.dynamic_batch, parsed.nms, parsed.masks)
    export(parsed.weights, parsed.to, parsed.out, form, parsed.image, parsed.int8, parsed.calibrate, parsed.overrides)


def add_nets(commands) -> None:
    parser = commands.add_parser("nets", help="list the backbones with their sizes")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these")
    parser.add_argument("--json", metavar="FILE", help="write the figures there, too")
    parser.set_defaults(run=run_nets)


def run_nets(parsed) -> None:
    from resdet.commands.nets import nets

    nets(parsed.names, parsed.json)


def add_config(commands) -> None:
    parser = commands.add_parser("config", help="print the whole resolved config")
    add_config_arguments(parser, required=False)
    parser.add_argument("--from-detectron2", metavar="YAML", help="print what a config of detectron2's is here instead")
    parser.set_defaults(run=run_config)


def run_config(parsed) -> None:
    from resdet import config
    from resdet.errors import ConfigError

    if bool(parsed.config) == bool(parsed.from_detectron2):
        raise ConfigError("Give --config with a config of ours, or --from-detectron2 with one of detectron2's.")
    if parsed.from_detectron2:
        return run_config_from_detectron2(parsed.from_detectron2)
    print(config.to_yaml(config.load(parsed.config, *parsed.overrides)), end="")


def run_config_from_detectron2(path: str) -> None:
    """The keys that differ from the defaults; what has no counterpart follows as comments."""
    import yaml

    from resdet.interop.detectron2_config import translate

    found = translate(path)
    print(yaml.safe_dump(found.settings, sort_keys=False, allow_unicode=True), end="")
    for sentence in found.left_out:
        print(f"# left out: {sentence}")


def add_data(commands) -> None:
    parser = commands.add_parser("data", help="get or make data sets")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    get = actions.add_parser("get", help="download a public data set from its official address")
    get.add_argument("name", choices=["cifar10"])
    get.add_argument("--root", metavar="DIR", help="where to (default: datasets/NAME)")
    get.set_defaults(run=run_data_get)
    make = actions.add_parser("make", help="write a generated data set, as files")
    make.add_argument("name", choices=["shapes", "shape_scenes", "shape_loc"], help="to classify, detect or localize")
    make.add_argument("root", metavar="DIR")
    make.add_argument("--train", type=int, default=1000, help="training images (default: 1000)")
    make.add_argument("--val", type=int, default=200, help="validation images (default: 200)")
    make.add_argument("--size", type=int, default=256, help="their side in pixels (default: 256)")
    make.add_argument("--seed", type=int, default=0)
    make.set_defaults(run=run_data_make)


def run_data_get(parsed) -> None:
    from resdet.commands.data import get

    get(parsed.name, parsed.root)


def run_data_make(parsed) -> None:
    from resdet.commands import data

    make = {"shapes": data.make_shapes, "shape_scenes": data.make_shape_scenes, "shape_loc": data.make_shape_loc}
    make[parsed.name](parsed.root, parsed.train, parsed.val, parsed.size, parsed.seed)


def add_bench(commands) -> None:
    parser = commands.add_parser("bench", help="time resdet beside torchvision, timm and pycocotools")
    suites = "forward, train, cifar, pipeline, detect, detect_train, ops, evaluate, index (default: all)"
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=suites)
    parser.add_argument(
        "--rounds", type=int, default=5, help="interleaved rounds, of which the median counts (default: 5)"
    )
    parser.add_argument("--threads", type=int, help="torch threads (default: as many as cores)")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    parser.set_defaults(run=run_bench)


def run_bench(parsed) -> None:
    from resdet.bench import bench

    bench(parsed.suites, parsed.rounds, parsed.threads, parsed.json)


def add_parity(commands) -> None:
    parser = commands.add_parser("parity", help="compare with the libraries whose weights are read and written")
    parser.add_argument("formats", nargs="*", metavar="FORMAT", help="torchvision, timm, detectron2 (default: all)")
    parser.add_argument("--json", metavar="FILE", help="write the table there")
    parser.set_defaults(run=run_parity)


def run_parity(parsed) -> None:
    from resdet.commands.parity import parity

    parity(parsed.formats, parsed.json)


def add_reproduce(commands) -> None:
    parser = commands.add_parser(
        "reproduce",
        help="the paper's tables and figures, row by row",
        description="Trains and tests rows of the paper's tables, resuming what was cut, and draws its figures.",
    )
    parser.add_argument(
        "target",
        nargs="?",
        metavar="TABLE_OR_FIGURE",
        help="table1 to table14, figure1, 4, 6 or 7, detections_voc or detections_coco",
    )
    parser.add_argument("--row", nargs="+", default=[], metavar="NAME", help="rows of the table, or nets of the figure")
    parser.add_argument("--list", action="store_true", help="print every row: system, figures, cost, needs")
    parser.add_argument("--dry-run", action="store_true", help="print the commands and what they cost, and stop")
    parser.add_argument("--smoke", action="store_true", help="run in miniature on generated data")
    parser.add_argument("--data", default="datasets", metavar="DIR", help="the folder of the data sets")
    parser.add_argument("--out", metavar="DIR", help="the folder of all runs (default: runs/reproduce)")
    parser.add_argument(
        "--use", nargs="+", default=[], metavar="TRAINING=FILE", help="take these weights instead of training them"
    )
    parser.add_argument("--processes", type=int, metavar="N", help="train with so many processes, as torchrun does")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings of every training")
    parser.set_defaults(run=run_reproduce)


def run_reproduce(parsed) -> None:
    from pathlib import Path

    from resdet.commands import reproduce
    from resdet.errors import ConfigError
    from resdet.reproduce.plan import Setting

    if parsed.target and "=" in parsed.target:
        parsed.overrides.insert(0, parsed.target)
        parsed.target = None
    if not (parsed.target or parsed.list or parsed.dry_run or parsed.smoke):
        raise ConfigError("Name a table or a figure to reproduce, such as table6; --list prints them all.")
    # Overrides may stand after --use and --row.
    settings = [word for word in (*parsed.use, *parsed.row) if "=" in word and "." in word.partition("=")[0]]
    given = reproduce.parse_given([word for word in parsed.use if word not in settings])
    out = parsed.out or ("runs/reproduce_smoke" if parsed.smoke else "runs/reproduce")
    setting = Setting(Path(out), Path(parsed.data), given, (*parsed.overrides, *settings), parsed.smoke)
    if parsed.list:
        return reproduce.list_rows(parsed.target, setting)
    rows, figures = reproduce.choose(parsed.target, [word for word in parsed.row if word not in settings])
    launch = reproduce.in_processes(parsed.processes) if parsed.processes else run_words
    reproduce.reproduce(rows, figures, setting, launch, parsed.dry_run)


def run_words(words: Sequence[str]) -> None:
    """`resdet WORDS` within this process; errors are raised."""
    parsed = parse(words)
    parsed.run(parsed)


if __name__ == "__main__":
    sys.exit(main())
