"""Arguments of `resdet bench`."""

import argparse

from resdet.cli.arguments import add_command, without_overrides
from resdet.cli.json_output import add_json_argument
from resdet.errors import ConfigError
from resdet.files.atomic import write_json

GPU, SMALL_DATA, ROUNDS = "gpu", "small_data", 5
EPILOG = (
    "`resdet bench gpu --out FOLDER` measures on a GPU, in less than ten minutes: kernels, training steps and "
    "inference of detectors and classifiers, eager, captured and compiled, compared with torchvision. `resdet bench "
    "small_data --data FOLDER --weights FILE` trains on your images by custom.yaml and by torchvision's recipe "
    "(docs/bench.md)."
)
OWN_OPTIONS = {  # options of suites that cannot be combined
    GPU: ("out", "stages", "tiny"),
    SMALL_DATA: ("data", "weights", "steps", "seeds", "share", "size", "peer_lr", "overrides"),
}


def add(commands) -> None:
    parser = add_command(
        commands, "bench", "benchmark resdet against torchvision, timm, onnxruntime, OpenVINO and pycocotools"
    )
    parser.epilog = EPILOG
    suites = (
        "forward, train, cifar, pipeline, detect, detect_train, end_to_end, ops, evaluate, index, serve (default: "
        "all), or gpu or small_data alone"
    )
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=suites)
    parser.add_argument(
        "--rounds", type=int, metavar="N", help=f"interleaved rounds; the median is reported (default: {ROUNDS})"
    )
    parser.add_argument(
        "--threads", type=int, metavar="N", help="torch threads (default: number of cores; of small_data: 1)"
    )
    parser.add_argument(
        "--images", dest="count", type=int, metavar="N", help="images of the suite end_to_end (default: 200)"
    )
    parser.add_argument("--case", metavar="TEXT", help="measure only the cases whose name contains TEXT")
    parser.add_argument("--device", choices=("cuda", "cpu"), help="default: cpu; of the suite gpu: cuda")
    add_json_argument(parser, "the timings")
    add_gpu_arguments(parser.add_argument_group("options of the suite gpu"))
    add_small_data_arguments(parser.add_argument_group("options of the suite small_data"))
    parser.set_defaults(run=run)


def add_gpu_arguments(group) -> None:
    group.add_argument("--out", metavar="FOLDER", help="folder of gpu.json, profile.txt and log.txt")
    group.add_argument("--stages", metavar="A,B", default="", help="stages to run (default: all)")
    group.add_argument("--tiny", action="store_true", help="small nets and images, to try the stages on a CPU")


def add_small_data_arguments(group) -> None:
    group.add_argument("--data", metavar="FOLDER", help="images and annotations, in any format")
    group.add_argument("--weights", metavar="FILE", help="ImageNet weights of ResNet-50, of any supported library")
    group.add_argument("--steps", type=int, metavar="N", help="training steps of resdet (default: 80)")
    group.add_argument("--seeds", nargs="+", metavar="N", help="a training of each side with each seed (default: 0)")
    group.add_argument("--share", type=float, metavar="SHARE", help="share of the training images (default: 1)")
    group.add_argument(
        "--size", type=int, nargs=2, metavar="N", help="shorter and longest side of the images (default: 320 427)"
    )
    group.add_argument("--peer-lr", type=float, metavar="LR", help="learning rate of torchvision (default: 0.01)")
    group.add_argument("overrides", nargs="*", metavar="section.key=value", help="override settings of custom.yaml")


def run(parsed) -> None:
    suites, overrides = without_overrides(parsed.suites)
    parsed.suites, parsed.overrides = suites, [*overrides, *parsed.overrides]
    for name in (GPU, SMALL_DATA):
        if name in suites and len(suites) > 1:
            raise ConfigError(f"The suite {name} runs alone: leave out the other suites.")
        refuse_options_of(name, parsed)
    if suites == [GPU]:
        run_gpu(parsed)
    elif suites == [SMALL_DATA]:
        run_small_data(parsed)
    else:
        from resdet.bench import bench

        rounds = ROUNDS if parsed.rounds is None else parsed.rounds
        bench(suites, rounds, parsed.threads, parsed.json, parsed.device or "cpu", parsed.count, parsed.case or "")


def refuse_options_of(suite: str, parsed: argparse.Namespace) -> None:
    """Refuses the options of a suite that is not selected."""
    for name in OWN_OPTIONS[suite]:
        if parsed.suites != [suite] and getattr(parsed, name):
            option = "KEY=VALUE" if name == "overrides" else f"--{name.replace('_', '-')}"
            raise ConfigError(f"{option} is for the suite {suite}: resdet bench {suite}; leave it out.")


def run_gpu(parsed: argparse.Namespace) -> None:
    from resdet.bench.gpu import bench_gpu

    if not parsed.out:
        raise ConfigError("The suite gpu writes several files: give a folder by --out.")
    if parsed.json or parsed.rounds is not None or parsed.threads or parsed.count or parsed.case:
        names = "--json, --rounds, --threads, --images and --case"
        raise ConfigError(f"{names} are not for the suite gpu; it writes to --out.")
    bench_gpu(parsed.out, [name for name in parsed.stages.split(",") if name], parsed.device or "cuda", parsed.tiny)


def run_small_data(parsed: argparse.Namespace) -> None:
    if not (parsed.data and parsed.weights):
        raise ConfigError("The suite small_data needs images and ImageNet weights: give --data FOLDER --weights FILE.")
    if parsed.rounds is not None or parsed.count or parsed.case or parsed.device == "cuda":
        raise ConfigError("--rounds, --images, --case and --device cuda are not for the suite small_data.")
    seeds, overrides = without_overrides(parsed.seeds or ["0"])
    wrong = next((seed for seed in seeds if not seed.isdecimal()), None)
    if wrong is not None:
        raise ConfigError(f"--seeds: {wrong} is not a seed: give whole numbers, such as 0 1 2.")

    from resdet.commands.small_data import Setting, small_data

    names = ("steps", "share", "size", "peer_lr", "threads")
    given = {name: getattr(parsed, name) for name in names if getattr(parsed, name) is not None}
    setting = Setting(parsed.data, parsed.weights, [*overrides, *parsed.overrides], **given)
    write_json(parsed.json, small_data(setting, [int(seed) for seed in seeds], parsed.json))
