"""The words of `resdet bench`."""

from resdet.cli.json_output import add_json_argument


def add(commands) -> None:
    parser = commands.add_parser("bench", help="time resdet beside torchvision, timm and pycocotools")
    suites = "forward, train, cifar, pipeline, detect, detect_train, ops, evaluate, index (default: all)"
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=suites)
    parser.add_argument(
        "--rounds", type=int, default=5, help="interleaved rounds, of which the median counts (default: 5)"
    )
    parser.add_argument("--threads", type=int, help="torch threads (default: as many as cores)")
    add_json_argument(parser, "the figures")
    parser.set_defaults(run=run)


def run(parsed) -> None:
    from resdet.bench import bench

    bench(parsed.suites, parsed.rounds, parsed.threads, parsed.json)
