"""Arguments of `resdet config`."""

from resdet.cli.arguments import add_command, add_config_arguments
from resdet.cli.json_output import add_json_argument
from resdet.errors import ConfigError
from resdet.files.atomic import write_json


def add(commands) -> None:
    parser = add_command(commands, "config", "print a config with all settings resolved")
    add_config_arguments(parser, required=False)
    parser.add_argument("--from-detectron2", metavar="YAML", help="translate a detectron2 config")
    parser.add_argument("--schema", action="store_true", help="print the JSON schema of config files, for editors")
    parser.add_argument(
        "--explain",
        nargs="?",
        const="",
        metavar="KEY",
        help="print type, default and meaning of a key, such as train.ema, or of all keys of a section, such as optim",
    )
    parser.add_argument("--markdown", action="store_true", help="with --explain: print the page docs/config.md")
    add_json_argument(parser, "the config")
    parser.set_defaults(run=run)


def run(parsed) -> None:
    from resdet import config

    explained = parsed.explain is not None
    if sum(map(bool, (parsed.config, parsed.from_detectron2, parsed.schema, explained))) != 1:
        raise ConfigError("Give exactly one of --config, --from-detectron2, --schema and --explain.")
    if parsed.markdown and not explained:
        raise ConfigError("--markdown is for --explain: add --explain, or leave it out.")
    if explained:
        from resdet.commands.explain import explain

        return explain(parsed.explain, parsed.markdown, parsed.json)
    if parsed.schema:
        return print_schema(parsed.json)
    if parsed.from_detectron2:
        return print_translation(parsed.from_detectron2, parsed.json)
    experiment = config.load(parsed.config, *parsed.overrides)
    print(config.to_yaml(experiment), end="")
    write_json(parsed.json, config.to_dict(experiment))


def print_schema(json_path: str | None) -> None:
    import json

    from resdet.config.json_schema import json_schema

    schema = json_schema()
    print(json.dumps(schema, indent=1))
    write_json(json_path, schema)


def print_translation(path: str, json_path: str | None) -> None:
    """Prints the keys that differ from the defaults; settings without a counterpart follow as comments."""
    from resdet.config.yaml_reader import dump
    from resdet.interop.detectron2_config import translate

    translation = translate(path)
    print(dump(translation.settings), end="")
    for sentence in translation.left_out:
        print(f"# left out: {sentence}")
    write_json(json_path, {"settings": translation.settings, "left_out": translation.left_out})
