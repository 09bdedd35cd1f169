"""Damaged configs: YAML files with `_base_`, and overrides, read into the dataclasses of every task."""

import copy
import dataclasses
import random
import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from fuzz.cases import Broken, Case, Trial
from fuzz.damage import Raw, damage_bytes, damage_text, mutate_tree, mutations
from fuzz.yaml_texts import KEYS, TEXTS

from resdet import config
from resdet.config.experiment import experiments, to_dict
from resdet.data.config import formats

FILE = "experiment.yaml"
SHIPPED = (
    *("cifar10_resnet20", "imagenet_r50_modern", "folder", "coco_mask_r50_fpn", "coco_r101", "coco_r101_alternating"),
    *("coco_cascade_mask_r50_fpn", "voc_vgg16", "ilsvrc_det_r101", "imagenet_loc_r101", "imagenet_loc_rcnn_r101"),
    *("coco_mnc_r101", "custom", "shapes_mask_r18_fpn", "shapes_resnet20", "coco_mask_modern"),
)
DEEP = [10, 200, 400, 1000, 5000, 50_000]


@cache
def shipped(name: str) -> dict[str, Any]:
    return to_dict(config.load(f"{name}.yaml"))


@cache
def keys_of(name: str) -> list[str]:
    """Returns the dotted keys of the experiment."""
    return dotted(shipped(name))


def dotted(tree: dict, prefix: str = "") -> list[str]:
    found = []
    for key, value in tree.items():
        found.append(f"{prefix}{key}")
        if isinstance(value, dict):
            found += dotted(value, f"{prefix}{key}.")
    return found


def value_at(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def make_case(rng: random.Random) -> Case:
    name = rng.choice(SHIPPED)
    files = {FILE: make_file(rng, name)}
    draw = rng.random()
    if draw < 0.15:
        files |= loops(rng)
        files[FILE] = f"_base_: {rng.choice(BASES)}\n".encode() + files[FILE]
    overrides = [override(rng, name) for _ in range(mutations(rng))] if rng.random() < 0.5 else []
    return Case(files, {"overrides": overrides, "file": FILE if draw > 0.03 else rng.choice(ODD_PATHS)})


BASES = [
    "a.yaml",
    "[a.yaml, b.yaml]",
    "b.yaml",
    "coco.yaml",
    "experiment.yaml",
    "null",
    "3",
    "[1]",
    "{a: 1}",
    "'.'",
    "''",
    "nowhere",
    "'../case'",
]
BASES += [
    "/dev/null",
    "'a\\0b'",
    "[[a.yaml]]",
    "[a.yaml, a.yaml]",
    "[" + "coco.yaml, " * 200 + "]",
    "'" + "x" * 5000 + "'",
    "'\\ud800'",
    "&a [*a]",
]
ODD_PATHS = ["", ".", "/", "nowhere.yaml", "x" * 5000, "a\0b", "coco", "/dev/null", "\ud800", "%s{}", "coco.yaml/x"]


def loops(rng: random.Random) -> dict[str, bytes]:
    """Returns base files that refer to each other, to themselves, or to the file that includes them."""
    first = rng.choice(["b.yaml", "a.yaml", "./a.yaml", "coco.yaml", "experiment.yaml", "c.yaml"])
    second = rng.choice(["a.yaml", "coco.yaml", "[]", "[a.yaml]"])
    texts = {"a.yaml": f"_base_: {first}\n", "b.yaml": f"_base_: {second}\ntask: detection\n"}
    return {name: text.encode() for name, text in texts.items()}


def make_file(rng: random.Random, name: str) -> bytes:
    draw = rng.random()
    if draw < 0.3:
        tree: Any = {"_base_": f"{name}.yaml"}
        for _ in range(mutations(rng)):
            key = rng.choice(keys_of(name))
            put(tree, key, Raw(value_text(rng, value_at(shipped(name), key))))
    elif draw < 0.4:
        return whole_text(rng, name)
    else:
        tree = copy.deepcopy(shipped(name))
        if rng.random() < 0.5:
            tree = {key: tree[key] for key in tree if key in ("task", "data") or rng.random() < 0.5}
        for _ in range(mutations(rng)):
            tree = mutate_tree(rng, tree, lambda rng, like: Raw(value_text(rng, like)))
    text = to_yaml(tree)
    draw = rng.random()
    if draw < 0.12:
        text = damage_text(rng, text)
    elif draw < 0.16:
        text = rng.choice(
            [
                text + text,
                text + "---\n" + text,
                "%YAML 9.9\n---\n" + text,
                "\ufeff" + text,
                text.replace("  ", "\t"),
                text.upper(),
            ]
        )
    data = text.encode("utf-8", "surrogatepass")
    if draw > 0.97:
        data = rng.choice(
            [text.encode("utf-16", "surrogatepass"), damage_bytes(rng, data), data + b"\xff", b"", b"\0" * 10]
        )
    return data


def put(tree: dict, key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for part in parents:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            return
    tree[last] = value


def value_text(rng: random.Random, like: Any = None) -> str:
    """Returns the text of a value, mostly of another type, sometimes of a plausible one."""
    draw = rng.random()
    if draw < 0.25 and isinstance(like, (int, float, list)):
        return rng.choice(
            ["0", "1", "2", "0.5", "16", "null", "[1]", "[1, 2]", "[[1, 2], [3]]", "[0.1, 0.9]", "true", str(like)]
        )
    if draw < 0.9:
        return rng.choice(TEXTS)
    if draw < 0.95:
        depth = rng.choice(DEEP)
        opening, closing = rng.choice([("[", "]"), ("{a: ", "}"), ("[[],", "]"), ("!!seq [", "]")])
        return opening * depth + "1" + closing * (depth - (rng.random() < 0.2))
    return bomb(rng)


def bomb(rng: random.Random) -> str:
    """Returns nested lists of aliases that expand exponentially."""
    levels, width = rng.choice([(3, 3), (9, 9), (25, 2), (40, 2)])
    rows = ["&l0 [x]"] + [f"&l{n} [{', '.join([f'*l{n - 1}'] * width)}]" for n in range(1, levels)]
    return f"[{', '.join(rows)}]"


def whole_text(rng: random.Random, name: str) -> bytes:
    """Returns a file with an unusual structure."""
    task, base = shipped(name)["task"], f"_base_: {name}.yaml\n"
    return rng.choice(
        [
            f"{base}optim: &o {{momentum: *o}}\n",
            f"{base}data: &d\n  augment: *d\n",
            f"&top\ntask: {task}\nmodel: *top\n",
            f"{base}model:\n  backbone: &b\n    name: *b\n",
            f"x: {bomb(rng)}\n{base}",
            f"{base}model: {bomb(rng)}\n",
            f"{base}data: {{augment: {{albumentations: {bomb(rng)}}}}}\n",
            f"defaults: &d {{lr: 1}}\n{base}optim:\n  <<: *d\n",
            f"{base}optim:\n  <<: {rng.choice(TEXTS)}\n",
            f"task: {rng.choice(TEXTS)}\n",
            f"task: {rng.choice(list(experiments))}\ndata: {rng.choice([*formats, *TEXTS])}\n",
            f"task: {rng.choice(list(experiments))}\nmodel: {rng.choice(TEXTS)}\n",
            f"{value_text(rng)}\n",
            f"{base}{value_text(rng)}: {value_text(rng)}\n",
            "- a\n- b\n",
            "a: 1\nb\n",
            base * 2,
            f"{base}{'a:' * 2000}\n",
        ]
    ).encode("utf-8", "surrogatepass")


def to_yaml(tree: Any) -> str:
    """Writes YAML with the texts of `Raw` values inserted verbatim."""
    raws: list[str] = []

    def represent(dumper: yaml.Dumper, raw: Raw) -> yaml.Node:
        raws.append(raw.text)
        return dumper.represent_str(f"RAW{len(raws) - 1}WAR")

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    Dumper.add_representer(Raw, represent)
    text = yaml.dump(tree, Dumper=Dumper, sort_keys=False, allow_unicode=True)
    return re.sub(r"RAW(\d+)WAR", lambda found: raws[int(found[1])], text)


def override(rng: random.Random, name: str) -> str:
    key = rng.choice(keys_of(name)) if rng.random() < 0.75 else rng.choice(KEYS)
    if rng.random() < 0.1:
        key = f"{key}{rng.choice(['.0', '[0]', '.a', '[-1]', '[', ']', ' ', '.'])}"
    text = f"{key}={value_text(rng, value_at(shipped(name), key))}"
    return damage_text(rng, text) if rng.random() < 0.05 else text


def run_case(folder: Path, options: dict[str, Any], trial: Trial) -> None:
    """Loads the config, prints it, and converts it to the form kept in checkpoints and back."""
    path = folder / options["file"] if options["file"] == FILE else options["file"]
    experiment = trial.attempt(config.load, path, *options["overrides"])
    if experiment is not None:
        trial.attempt(keep, experiment)


def keep(experiment: Any) -> None:
    print(config.to_yaml(experiment), end="")
    content = to_dict(experiment)
    again = config.from_dict(content)
    found = config.differences(content, to_dict(again))
    if any(old == old for old, _ in found.values()):  # NaN differs from itself
        raise Broken(f"an experiment comes back changed: {found}")
    rebuild(experiment)


def rebuild(config_of_section: Any) -> None:
    """Runs the checks of the dataclasses again: all of them must already have run when the file was loaded."""
    for field in dataclasses.fields(config_of_section):
        value = getattr(config_of_section, field.name)
        if dataclasses.is_dataclass(value):
            rebuild(value)
    dataclasses.replace(config_of_section)
