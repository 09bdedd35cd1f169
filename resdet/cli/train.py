"""Arguments of `resdet train`."""

from resdet.cli.arguments import add_command, add_config_arguments
from resdet.cli.json_output import add_json_argument


def add(commands) -> None:
    parser = add_command(commands, "train", "train the model of a config")
    add_config_arguments(parser)
    parser.add_argument(
        "--out", metavar="DIR", help="folder of the run (default: runs/NAME, or the next free runs/NAME-2 …)"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue the run in --out, that of --config RUN/config.yaml, or the last of runs/NAME, runs/NAME-2 …",
    )
    parser.add_argument(
        "--init",
        metavar="WEIGHTS",
        help="initial weights, a file or a published model; layers for another number of classes are reinitialized",
    )
    parser.add_argument("--eval-only", action="store_true", help="evaluate the weights of --init and stop")
    add_json_argument(parser, "the metrics of the best evaluation")
    parser.set_defaults(run=run)


def run(parsed) -> None:
    from resdet import config

    experiment = config.load(parsed.config, *parsed.overrides)  # report config errors before importing torch

    from resdet.commands.train import train
    from resdet.engine.run_folder import folder_of

    out = parsed.out or (folder_of(parsed.config) if parsed.resume else None)
    train(experiment, out, parsed.resume, parsed.init, parsed.eval_only, parsed.json)
