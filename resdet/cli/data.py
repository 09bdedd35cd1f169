"""The words of `resdet data`."""

from resdet.cli.arguments import output_folder
from resdet.cli.json_output import add_json_argument
from resdet.files.atomic import write_json


def add(commands) -> None:
    parser = commands.add_parser("data", help="get or make data sets")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    get = actions.add_parser("get", help="download a public data set from its official address")
    get.add_argument("name", choices=["cifar10"])
    get.add_argument("--root", type=output_folder, metavar="DIR", help="where to (default: datasets/NAME)")
    add_json_argument(get, "where the data set lies")
    get.set_defaults(run=run_get)
    make = actions.add_parser("make", help="write a generated data set, as files")
    make.add_argument("name", choices=["shapes", "shape_scenes", "shape_loc"], help="to classify, detect or localize")
    make.add_argument("root", type=output_folder, metavar="DIR")
    make.add_argument("--train", type=int, default=1000, help="training images (default: 1000)")
    make.add_argument("--val", type=int, default=200, help="validation images (default: 200)")
    make.add_argument("--size", type=int, default=256, help="their side in pixels (default: 256)")
    make.add_argument("--seed", type=int, default=0)
    add_json_argument(make, "where the data set lies, and its sizes,")
    make.set_defaults(run=run_make)


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
