"""Arguments that several commands take."""

import argparse


def add_config_arguments(parser: argparse.ArgumentParser, required: bool = True) -> None:
    parser.add_argument(
        "--config", required=required, metavar="NAME_OR_PATH", help="a YAML file, or its name in configs/"
    )
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings over those of the config")
