"""Arguments of `resdet bench`."""

import argparse

from resdet.cli.arguments import add_command
from resdet.cli.json_output import add_json_argument
from resdet.errors import ConfigError

GPU, ROUNDS = "gpu", 5
EPILOG = (
    "`resdet bench gpu --out FOLDER` measures on a GPU, in less than ten minutes: kernels, training steps and "
    "inference of detectors and classifiers, eager, captured and compiled, beside torchvision's (docs/bench.md)."
)


def add(commands) -> None:
    parser = add_command(
        commands, "bench", "benchmark resdet against torchvision, timm, onnxruntime, OpenVINO and pycocotools"
    )
    parser.epilog = EPILOG
    suites = (
        "forward, train, cifar, pipeline, detect, detect_train, end_to_end, ops, evaluate, index, serve (default: "
        "all), or gpu alone"
    )
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=suites)
    parser.add_argument(
        "--rounds", type=int, metavar="N", help=f"interleaved rounds; the median is reported (default: {ROUNDS})"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="torch threads (default: number of cores)")
    parser.add_argument(
        "--images", dest="count", type=int, metavar="N", help="images of the suite end_to_end (default: 200)"
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), help="default: cpu; of the suite gpu: cuda")
    add_json_argument(parser, "the timings")
    add_gpu_arguments(parser.add_argument_group("options of the suite gpu"))
    parser.set_defaults(run=run)


def add_gpu_arguments(group) -> None:
    group.add_argument("--out", metavar="FOLDER", help="folder of gpu.json, profile.txt and log.txt")
    group.add_argument("--stages", metavar="A,B", default="", help="stages to run (default: all)")
    group.add_argument("--tiny", action="store_true", help="small nets and images, to try the stages on a CPU")


def run(parsed) -> None:
    if GPU in parsed.suites:
        run_gpu(parsed)
        return
    from resdet.bench import bench

    if parsed.out or parsed.stages or parsed.tiny:
        raise ConfigError("--out, --stages and --tiny are for the suite gpu: resdet bench gpu --out FOLDER.")
    rounds = ROUNDS if parsed.rounds is None else parsed.rounds
    bench(parsed.suites, rounds, parsed.threads, parsed.json, parsed.device or "cpu", parsed.count)


def run_gpu(parsed: argparse.Namespace) -> None:
    from resdet.bench.gpu import bench_gpu

    if parsed.suites != [GPU]:
        raise ConfigError("The suite gpu runs alone: resdet bench gpu --out FOLDER.")
    if not parsed.out:
        raise ConfigError("The suite gpu writes several files: give a folder by --out.")
    if parsed.json or parsed.rounds is not None or parsed.threads or parsed.count:
        raise ConfigError("--json, --rounds, --threads and --images are not for the suite gpu; it writes to --out.")
    bench_gpu(parsed.out, [name for name in parsed.stages.split(",") if name], parsed.device or "cuda", parsed.tiny)
