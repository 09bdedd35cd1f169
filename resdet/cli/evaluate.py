"""Arguments of `resdet evaluate`."""

from resdet.cli.arguments import (
    add_command,
    add_config_arguments,
    add_speed_arguments,
    add_tile_arguments,
    output_file,
    speed_of,
    tile_overrides,
    without_overrides,
)
from resdet.cli.json_output import add_json_argument
from resdet.detection.evaluation.protocols import COCO, evaluators
from resdet.errors import ConfigError
from resdet.files.atomic import check_not_inputs
from resdet.results.parquet import MANIFEST

RESULTS_OPTIONS = ("type", "protocol", "engine", "curves", "confusion", "sigmas")  # valid with --results only
WEIGHTS_OPTIONS = (
    "config",
    "overrides",
    "submission",
    "classifier",
    "save",
    "split",
    "tile",
    "overlap",
    "mode",
    "compile",
)  # valid with --weights only


def add(commands) -> None:
    parser = add_command(commands, "evaluate", "evaluate checkpoints on a validation set, or a results file")
    parser.add_argument(
        "--weights",
        nargs="+",
        default=[],
        metavar="FILE",
        help="a checkpoint or an exported file, or several checkpoints as an ensemble",
    )
    add_config_arguments(parser, required=False)
    parser.add_argument("--per-class", action="store_true", help="print a table of metrics per class")
    add_json_argument(parser, "all metrics")
    parser.add_argument(
        "--submission",
        type=output_file,
        metavar="FILE",
        help="write a test server submission instead of metrics: ILSVRC, VOC (.tar.gz; comp3 if the name starts with "
        "it, else comp4) or COCO (detections_test-dev2015_NAME_results.json or .zip)",
    )
    parser.add_argument(
        "--classifier",
        nargs="+",
        default=[],
        metavar="FILE",
        help="classifiers that give a localizer its classes",
    )
    parser.add_argument(
        "--save", type=output_file, metavar="JSON", help="write the detections of a detector as a COCO results file"
    )
    parser.add_argument(
        "--split",
        metavar="NAME",
        help="the split of the data to evaluate a detector on: train, val or test (default: val)",
    )
    add_speed_arguments(parser, "exact")
    add_tile_arguments(parser)
    add_results_arguments(parser.add_argument_group("results file of any detector, instead of --weights"))
    parser.set_defaults(run=run)


def add_results_arguments(results) -> None:
    results.add_argument("--annotations", metavar="JSON", help="ground truth in COCO format")
    results.add_argument(
        "--results",
        metavar="JSON",
        help="detections in COCO results format, or a folder of resdet predict --parquet",
    )
    kinds = ["bbox", "segm", "keypoints"]
    results.add_argument("--type", choices=kinds, help="evaluate boxes, masks or keypoints (default: bbox)")
    results.add_argument(
        "--sigmas",
        nargs="+",
        type=float,
        metavar="SIGMA",
        help="standard deviation of each keypoint for OKS (default: COCO's for its 17, else their mean)",
    )
    results.add_argument("--protocol", choices=list(evaluators), help="evaluation protocol (default: coco)")
    results.add_argument(
        "--engine", choices=["hotcoco", "pycocotools"], help="COCO evaluation backend (default: hotcoco)"
    )
    results.add_argument("--curves", action="store_true", help="print precision-recall curves per class")
    results.add_argument("--confusion", action="store_true", help="print the confusion matrix and error types (TIDE)")


def run(parsed) -> None:
    from resdet import config

    if parsed.results or parsed.annotations:
        return run_results(parsed)
    weights, overrides = without_overrides(parsed.weights)
    classifiers, others = without_overrides(parsed.classifier)
    overrides = [*parsed.overrides, *overrides, *others, *tile_overrides(parsed)]
    if not weights:
        raise ConfigError("Nothing to evaluate: give --weights, or --annotations and --results.")
    refuse_results_options(parsed)
    refuse_metrics_of_submission(parsed)
    refuse_inputs_as_outputs(parsed, [*weights, *classifiers, *([parsed.config] if parsed.config else [])])
    experiment = config.load(parsed.config, *overrides) if parsed.config else None

    from resdet.commands.evaluate import evaluate
    from resdet.tasks import EvaluateOptions

    options = EvaluateOptions(parsed.per_class, parsed.json, parsed.submission, parsed.save, split=parsed.split)
    evaluate(weights, experiment, overrides, options, classifiers, *speed_of(parsed, "exact"))


def refuse_results_options(parsed) -> None:
    for name in RESULTS_OPTIONS:
        if getattr(parsed, name):
            drawn = name in ("confusion", "curves")
            instead = "use `resdet report` of its run" if drawn else "set eval.metric=… for another protocol"
            raise ConfigError(
                f"--{name} needs --results: with --weights, {instead}, or write the detections with --save and "
                "evaluate that file with --annotations and --results."
            )


def refuse_metrics_of_submission(parsed) -> None:
    for name in ("per_class", "json", "save", "split"):
        if parsed.submission and getattr(parsed, name):
            raise ConfigError(
                f"--{name.replace('_', '-')} and --submission exclude each other, since test images have no ground "
                "truth: give one of the two."
            )


def refuse_inputs_as_outputs(parsed, inputs: list[str]) -> None:
    check_not_inputs({f"--{name}": getattr(parsed, name) for name in ("json", "submission", "save")}, inputs)


def refuse_weights_options(parsed) -> None:
    for name in WEIGHTS_OPTIONS:
        if getattr(parsed, name) not in (None, [], False) or (name == "compile" and parsed.compile is False):
            option = " ".join(parsed.overrides) if name == "overrides" else f"--{name}"
            raise ConfigError(f"{option} needs --weights and has no effect on --results: leave it out.")


def run_results(parsed) -> None:
    if not (parsed.results and parsed.annotations) or parsed.weights:
        raise ConfigError(
            "To evaluate a results file, give both --annotations (ground truth) and --results, and no --weights."
        )
    refuse_weights_options(parsed)
    if parsed.engine and parsed.protocol not in (None, COCO):
        raise ConfigError(f"--engine is for --protocol coco and has no effect on {parsed.protocol}: leave it out.")
    refuse_inputs_as_outputs(parsed, [parsed.annotations, parsed.results, f"{parsed.results}/{MANIFEST}"])

    from resdet.commands.evaluate_results import evaluate_results

    evaluate_results(
        parsed.annotations,
        parsed.results,
        parsed.type or "bbox",
        parsed.per_class,
        parsed.curves,
        parsed.confusion,
        parsed.json,
        parsed.engine or "hotcoco",
        parsed.protocol or "coco",
        parsed.sigmas,
    )
