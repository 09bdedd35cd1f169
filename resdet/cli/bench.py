"""Arguments of `resdet bench`."""

from resdet.cli.arguments import add_command
from resdet.cli.json_output import add_json_argument


def add(commands) -> None:
    parser = add_command(commands, "bench", "benchmark resdet against torchvision, timm and pycocotools")
    suites = "forward, train, cifar, pipeline, detect, detect_train, end_to_end, ops, evaluate, index (default: all)"
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=suites)
    parser.add_argument(
        "--rounds", type=int, metavar="N", default=5, help="interleaved rounds; the median is reported (default: 5)"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="torch threads (default: number of cores)")
    add_json_argument(parser, "the timings")
    parser.set_defaults(run=run)


def run(parsed) -> None:
    from resdet.bench import bench

    bench(parsed.suites, parsed.rounds, parsed.threads, parsed.json)
