"""The words of `resdet config`."""

from resdet.cli.arguments import add_config_arguments


def add(commands) -> None:
    parser = commands.add_parser("config", help="print the whole resolved config")
    add_config_arguments(parser, required=False)
    parser.add_argument("--from-detectron2", metavar="YAML", help="print what a config of detectron2's is here instead")
    parser.set_defaults(run=run)


def run(parsed) -> None:
    from resdet import config
    from resdet.errors import ConfigError

    if bool(parsed.config) == bool(parsed.from_detectron2):
        raise ConfigError("Give --config with a config of ours, or --from-detectron2 with one of detectron2's.")
    if parsed.from_detectron2:
        return run_from_detectron2(parsed.from_detectron2)
    print(config.to_yaml(config.load(parsed.config, *parsed.overrides)), end="")


def run_from_detectron2(path: str) -> None:
    """The keys that differ from the defaults; what has no counterpart follows as comments."""
    import yaml

    from resdet.interop.detectron2_config import translate

    found = translate(path)
    print(yaml.safe_dump(found.settings, sort_keys=False, allow_unicode=True), end="")
    for sentence in found.left_out:
        print(f"# left out: {sentence}")
