"""Arguments of `resdet data`."""

from resdet.cli import data_check, data_sets
from resdet.cli.arguments import add_command, bounded, natural, output_folder, positive
from resdet.cli.help import add_action_examples
from resdet.cli.json_output import add_json_argument
from resdet.files.atomic import write_json


def add(commands) -> None:
    parser = add_command(
        commands, "data", "download, generate, check, convert, split, merge, subset, label, shard or show data sets"
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    add_get(actions)
    add_make(actions)
    data_sets.add(actions)
    data_check.add(actions)
    add_action_examples(actions.choices)


def add_get(actions) -> None:
    get = add_command(actions, "get", "download a public data set from its official address")
    get.add_argument("name", choices=["cifar10"], help="data set")
    get.add_argument("--root", type=output_folder, metavar="DIR", help="output folder (default: datasets/NAME)")
    add_json_argument(get, "the name and folder of the data set")
    get.set_defaults(run=run_get)


def add_make(actions) -> None:
    make = add_command(actions, "make", "write a generated data set to files")
    make.add_argument(
        "name",
        choices=["shapes", "shape_scenes", "shape_vid", "shape_loc"],
        help="data for classification, detection, detection in videos, or localization",
    )
    make.add_argument("root", type=output_folder, metavar="DIR", help="output folder")
    make.add_argument(
        "--train",
        type=positive,
        metavar="N",
        default=1000,
        help="training images (default: 1000); of shape_vid: frames",
    )
    make.add_argument("--val", type=positive, metavar="N", default=200, help="validation images (default: 200)")
    make.add_argument("--size", type=side, metavar="N", default=256, help="side of an image (default: 256)")
    make.add_argument("--seed", type=natural, metavar="N", default=0, help="random seed (default: 0)")
    add_json_argument(make, "the folder and the arguments")
    make.set_defaults(run=run_make)


def side(text: str) -> int:
    """argparse `type` for the side of a generated image."""
    return int(bounded(int, text, 1, 8192))


def run_get(parsed) -> None:
    from resdet.commands.data import get

    folder = get(parsed.name, parsed.root)
    write_json(parsed.json, {"name": parsed.name, "root": str(folder)})


def run_make(parsed) -> None:
    from resdet.commands import data

    make = {
        "shapes": data.make_shapes,
        "shape_scenes": data.make_shape_scenes,
        "shape_vid": data.make_shape_vid,
        "shape_loc": data.make_shape_loc,
    }
    make[parsed.name](parsed.root, parsed.train, parsed.val, parsed.size, parsed.seed)
    content = {key: getattr(parsed, key) for key in ("name", "root", "train", "val", "size", "seed")}
    write_json(parsed.json, content)
