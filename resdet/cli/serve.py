"""Arguments of `resdet serve`."""

from resdet.cli.arguments import (
    add_command,
    add_device_argument,
    add_speed_arguments,
    bounded,
    natural,
    not_negative,
    positive,
    speed_of,
)

MEBIBYTE, MEGAPIXEL, SECOND = 2**20, 10**6, 1000  # bytes, pixels, milliseconds


def add(commands) -> None:
    parser = add_command(commands, "serve", "answer prediction requests over HTTP")
    parser.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
        help="a checkpoint or an exported file; NAME=FILE names it (default: the file's name without its suffix)",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
    parser.add_argument(
        "--port", type=natural, default=8000, metavar="N", help="port (default: %(default)s; 0: any free one)"
    )
    add_device_argument(parser)
    parser.add_argument(
        "--workers",
        type=positive,
        default=1,
        metavar="N",
        help="processes, one per GPU, at the port and the ports above it (default: 1)",
    )
    parser.add_argument(
        "--token", help="required of requests, as Authorization: Bearer TOKEN (default: $RESDET_SERVE_TOKEN, if set)"
    )
    parser.add_argument(
        "--classifier", nargs="+", default=[], metavar="FILE", help="classifiers that give localizers their classes"
    )
    parser.add_argument(
        "--poll",
        type=positive_float,
        default=2.0,
        metavar="S",
        help="seconds between checks for changed files, which are reloaded (default: 2)",
    )
    parser.add_argument("--log-requests", action="store_true", help="write a line to stderr for each request")
    add_speed_arguments(parser, "fast")
    add_limits(parser.add_argument_group("limits"))
    parser.set_defaults(run=run)


def add_limits(group) -> None:
    def add(name: str, default: float, metavar: str, text: str, kind=None) -> None:
        text = f"{text} (default: {default:g})"
        group.add_argument(name, type=kind or positive_float, default=default, metavar=metavar, help=text)

    add("--max-batch", 8, "N", "images that a net predicts together", positive)
    add("--max-wait", 5, "MS", "milliseconds that an image waits for others to share its batch", not_negative)
    add("--queue", 64, "N", "images of a model in progress; above: status 503", positive)
    add("--timeout", 30, "S", "seconds from the end of a request to its results; then status 504")
    add("--body-timeout", 10, "S", "seconds for the headers, and for the body, to arrive; then status 408")
    add("--max-mb", 32, "MB", "size of a body in MiB; above: status 413")
    add("--max-megapixels", 50, "N", "pixels of an image, in millions; above: status 413")
    add("--max-images", 32, "N", "images of a request; above: status 400", positive)


def run(parsed) -> int:
    from resdet.commands.serve import serve
    from resdet.serve.limits import Limits

    limits = Limits(
        max_batch=parsed.max_batch,
        max_wait=parsed.max_wait / SECOND,
        queue=parsed.queue,
        timeout=parsed.timeout,
        body_timeout=parsed.body_timeout,
        max_bytes=int(parsed.max_mb * MEBIBYTE),
        max_pixels=int(parsed.max_megapixels * MEGAPIXEL),
        max_images=parsed.max_images,
    )
    mode, compile = speed_of(parsed, "fast")
    return serve(
        parsed.models,
        limits,
        parsed.workers,
        parsed.device or "auto",
        parsed.token,
        host=parsed.host,
        port=parsed.port,
        mode=mode,
        compile=compile,
        classifiers=tuple(parsed.classifier),
        poll=parsed.poll,
        log_requests=parsed.log_requests,
    )


def positive_float(text: str) -> float:
    """argparse `type` for a number above 0."""
    return bounded(float, text, 1e-6)
