"""The words of `resdet train`."""

from resdet.cli.arguments import add_config_arguments


def add(commands) -> None:
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
    parser.set_defaults(run=run)


def run(parsed) -> None:
    from resdet import config

    experiment = config.load(parsed.config, *parsed.overrides)  # a mistake in it does not wait for torch

    from resdet.commands.train import train

    train(experiment, parsed.out, parsed.resume, parsed.init, parsed.eval_only)
