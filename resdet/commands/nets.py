"""`resdet nets`: lists the registered backbones with their parameters and multiply-adds."""

from collections.abc import Sequence
from typing import Any

from resdet.backbones import config, registry
from resdet.backbones.complexity import count_multiply_adds, count_parameters, on_paper
from resdet.commands.columns import aligned
from resdet.files.atomic import write_json


def variants(name: str) -> list[dict[str, str]]:
    """Returns the option sets that change parameters or multiply-adds; the paper's comes first."""
    if name in ("resnet18", "resnet34"):
        return [{"shortcut": option} for option in "ABC"]
    if name in config.IMAGENET_RESNETS:
        return [{"shortcut": "B", "stride_in": stride} for stride in ("1x1", "3x3")]
    return [{}]


def count(name: str, options: dict[str, str]) -> dict[str, Any]:
    entry = registry.entry(name)
    net = on_paper(name, 10 if entry.image_size == 32 else 1000, **options)
    return {
        "name": name,
        "depth": entry.depth,
        "shortcut": options.get("shortcut") or ("A" if name.startswith("cifar_resnet") else "-"),
        "stride in": options.get("stride_in", "-"),
        "parameters": count_parameters(net),
        "multiply_adds": count_multiply_adds(net, entry.image_size),
        "image": entry.image_size,
        "strides": dict(entry.strides),
    }


def cells(line: dict[str, Any]) -> dict[str, str]:
    """Returns {column head: printed cell} of a row."""
    strides = " ".join(f"{level}:{stride}" for level, stride in line["strides"].items())
    row = {key: str(line[key]) for key in ("name", "depth", "shortcut", "stride in")}
    row |= {"parameters": f"{line['parameters']:,}", "multiply-adds": f"{line['multiply_adds'] / 1e9:.3f} G"}
    return row | {"image": str(line["image"]), "features and their strides": strides}


def nets(names: Sequence[str] = (), json_path: str | None = None) -> None:
    """Prints depth, shortcut option, stride position, parameters, multiply-adds and feature strides of each net."""
    counted = [count(name, options) for name in names or config.names() for options in variants(name)]
    right = ("depth", "parameters", "multiply-adds", "image")
    print("\n".join(aligned([cells(line) for line in counted], right)))
    if not names:
        print("CIFAR nets of any depth 6n+2 (cifar_resnet26, …) are valid too; a config also accepts timm/<name>.")
    write_json(json_path, counted)
