"""The words of `resdet evaluate`."""

from resdet.cli.arguments import add_config_arguments, output_file, without_overrides
from resdet.cli.json_output import add_json_argument
from resdet.detection.evaluation.protocols import evaluators

OF_RESULTS = ("type", "protocol", "engine", "curves", "confusion")  # options of --results alone
OF_WEIGHTS = ("config", "overrides", "submission", "classifier", "save")  # and of --weights


def add(commands) -> None:
    parser = commands.add_parser("evaluate", help="judge checkpoints on a validation set, or a file of detections")
    parser.add_argument(
        "--weights", nargs="+", default=[], metavar="FILE", help="a checkpoint, or several as an ensemble"
    )
    add_config_arguments(parser, required=False)
    parser.add_argument("--per-class", action="store_true", help="print a table with the figures of each class")
    add_json_argument(parser, "all figures")
    parser.add_argument(
        "--submission",
        type=output_file,
        metavar="FILE",
        help="write the test server's file instead: ILSVRC's, VOC's (.tar.gz; comp3… for comp3, else comp4), COCO's "
        "(detections_test-dev2015_NAME_results.json or .zip)",
    )
    parser.add_argument(
        "--classifier", nargs="+", default=[], metavar="FILE", help="a localizer's: nets that predict the classes"
    )
    parser.add_argument(
        "--save", type=output_file, metavar="JSON", help="keep a detector's detections as a COCO results file"
    )
    results = parser.add_argument_group("anybody's results file, in place of --weights")
    results.add_argument("--annotations", metavar="JSON", help="ground truth in COCO's format; with --results")
    results.add_argument("--results", metavar="JSON", help="detections in COCO's results format, to be judged")
    results.add_argument("--type", choices=["bbox", "segm"], help="boxes or masks (default: bbox)")
    results.add_argument("--protocol", choices=list(evaluators), help="whose rules (default: coco)")
    results.add_argument("--engine", choices=["hotcoco", "pycocotools"], help="who counts (default: hotcoco)")
    results.add_argument("--curves", action="store_true", help="precision over recall of each class")
    results.add_argument("--confusion", action="store_true", help="which class is taken for which, and other errors")
    parser.set_defaults(run=run)


def run(parsed) -> None:
    from resdet import config
    from resdet.errors import ConfigError

    if parsed.results or parsed.annotations:
        return run_results(parsed)
    weights, overrides = without_overrides(parsed.weights)
    classifiers, others = without_overrides(parsed.classifier)
    overrides = [*parsed.overrides, *overrides, *others]
    if not weights:
        raise ConfigError("Nothing to judge: give --weights, or --annotations and --results.")
    refuse_options_of_results(parsed)
    refuse_figures_of_submissions(parsed)
    experiment = config.load(parsed.config, *overrides) if parsed.config else None

    from resdet.commands.evaluate import evaluate

    evaluate(weights, experiment, overrides, parsed.per_class, parsed.json, parsed.submission, parsed.save, classifiers)


def refuse_options_of_results(parsed) -> None:
    from resdet.errors import ConfigError

    for name in OF_RESULTS:
        if getattr(parsed, name):
            raise ConfigError(
                f"--{name} belongs to --results: with --weights set eval.metric=… for other rules, or --save the "
                "detections and judge that file by --annotations and --results."
            )


def refuse_figures_of_submissions(parsed) -> None:
    from resdet.errors import ConfigError

    for name in ("per_class", "json", "save"):
        if parsed.submission and getattr(parsed, name):
            raise ConfigError(
                f"--{name.replace('_', '-')} is not for --submission, whose images nobody here can judge: give one of "
                "the two."
            )


def refuse_options_of_weights(parsed) -> None:
    from resdet.errors import ConfigError

    for name in OF_WEIGHTS:
        if getattr(parsed, name):
            told = " ".join(parsed.overrides) if name == "overrides" else f"--{name}"
            raise ConfigError(f"{told} belongs to --weights: --results and --annotations are judged as they are.")


def run_results(parsed) -> None:
    from resdet.errors import ConfigError

    if not (parsed.results and parsed.annotations) or parsed.weights:
        raise ConfigError(
            "--annotations and --results belong together, without --weights: ground truth and detections."
        )
    refuse_options_of_weights(parsed)

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
    )
