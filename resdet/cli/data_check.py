"""Arguments of `resdet data check`."""

from resdet.cli.arguments import add_command, output_file, output_folder
from resdet.cli.json_output import add_json_argument
from resdet.errors import ConfigError
from resdet.files.atomic import write_json


def add(actions) -> None:
    check = add_command(actions, "check", "find errors in the images and annotations of a detection data set")
    check.add_argument(
        "--config", metavar="NAME_OR_PATH", help="a YAML file, or its name in configs/ (default: custom)"
    )
    check.add_argument(
        "overrides", nargs="*", metavar="ROOT", help="folder of the data (sets data.root); section.key=value overrides"
    )
    check.add_argument("--html", type=output_file, metavar="FILE", help="write a page with pictures of the findings")
    check.add_argument(
        "--fix",
        type=output_folder,
        metavar="DIR",
        help="write a cleaned copy with a log of all changes: drops unreadable images, copies, and boxes without area; "
        "clips boxes, swaps negative sides, corrects image sizes",
    )
    check.add_argument("--strict", action="store_true", help="exit with status 1 if there are errors")
    check.add_argument("--decode", action="store_true", help="decode all images, to find damage inside files")
    check.add_argument(
        "--no-near-duplicates",
        action="store_true",
        help="skip the search for near-duplicates, which decodes all images at a low resolution",
    )
    add_json_argument(check, "all findings")
    check.set_defaults(run=run)


def run(parsed) -> int:
    from resdet import config
    from resdet.tasks import CheckOptions, tasks

    roots = [word for word in parsed.overrides if not config.is_override(word)]
    if len(roots) > 1 or not (roots or parsed.config):
        raise ConfigError("resdet data check takes one folder, or --config: name the data to check.")
    words = [f"data.root={root}" for root in roots] + [word for word in parsed.overrides if word not in roots]
    options = CheckOptions(parsed.html, parsed.fix, not parsed.no_near_duplicates, parsed.decode)
    experiment = config.load(parsed.config or "custom.yaml", *words)
    content = tasks[experiment.task].check_data(experiment, options)
    write_json(parsed.json, content)
    return int(parsed.strict and content["counts"]["error"] > 0)
