"""Arguments of `resdet data`."""

from resdet.cli.arguments import add_command, output_file, output_folder
from resdet.cli.json_output import add_json_argument
from resdet.files.atomic import write_json


def add(commands) -> None:
    parser = add_command(commands, "data", "download, generate or check data sets")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    get = add_command(actions, "get", "download a public data set from its official address")
    get.add_argument("name", choices=["cifar10"])
    get.add_argument("--root", type=output_folder, metavar="DIR", help="output folder (default: datasets/NAME)")
    add_json_argument(get, "the name and folder of the data set")
    get.set_defaults(run=run_get)
    make = add_command(actions, "make", "write a generated data set to files")
    make.add_argument(
        "name",
        choices=["shapes", "shape_scenes", "shape_loc"],
        help="data for classification, detection or localization",
    )
    make.add_argument("root", type=output_folder, metavar="DIR", help="output folder")
    make.add_argument("--train", type=int, metavar="N", default=1000, help="number of training images (default: 1000)")
    make.add_argument("--val", type=int, metavar="N", default=200, help="number of validation images (default: 200)")
    make.add_argument("--size", type=int, metavar="N", default=256, help="side of an image in pixels (default: 256)")
    make.add_argument("--seed", type=int, metavar="N", default=0, help="random seed (default: 0)")
    add_json_argument(make, "the folder and the arguments")
    make.set_defaults(run=run_make)
    add_check(actions)


def add_check(actions) -> None:
    check = add_command(actions, "check", "find faults in the images and annotations of a detection data set")
    check.add_argument("--config", metavar="NAME_OR_PATH", help="a YAML file, or its name in configs/; default: custom")
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
    check.add_argument("--decode", action="store_true", help="decode all images, to find damage inside of files")
    check.add_argument(
        "--no-near-duplicates",
        action="store_true",
        help="do not search for nearly equal images, which decodes all images at a low resolution",
    )
    add_json_argument(check, "all findings")
    check.set_defaults(run=run_check)


def run_check(parsed) -> int:
    from resdet import config
    from resdet.commands.data import check
    from resdet.errors import ConfigError
    from resdet.tasks import CheckOptions

    roots = [word for word in parsed.overrides if not config.is_override(word)]
    if len(roots) > 1 or not (roots or parsed.config):
        raise ConfigError("resdet data check takes one folder, or --config: name the data to check.")
    words = [f"data.root={root}" for root in roots] + [word for word in parsed.overrides if word not in roots]
    options = CheckOptions(parsed.html, parsed.fix, not parsed.no_near_duplicates, parsed.decode)
    content = check(config.load(parsed.config or "custom.yaml", *words), options)
    write_json(parsed.json, content)
    return int(parsed.strict and content["counts"]["error"] > 0)


def run_get(parsed) -> None:
    from resdet.commands.data import get

    folder = get(parsed.name, parsed.root)
    write_json(parsed.json, {"name": parsed.name, "root": str(folder)})


def run_make(parsed) -> None:
    from resdet.commands import data

    make = {"shapes": data.make_shapes, "shape_scenes": data.make_shape_scenes, "shape_loc": data.make_shape_loc}
    make[parsed.name](parsed.root, parsed.train, parsed.val, parsed.size, parsed.seed)
    content = {key: getattr(parsed, key) for key in ("name", "root", "train", "val", "size", "seed")}
    write_json(parsed.json, content)
