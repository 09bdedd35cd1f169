"""Damaged annotation files give findings, a page and a cleaned copy, without a traceback."""

import copy
import json
import random

import pytest
from detection.check.planted import DataSet, experiment

from resdet.detection.check.fix import write_fixed
from resdet.detection.check.page import page
from resdet.detection.check.report import Depth, check_splits
from resdet.detection.check.split import Split
from resdet.detection.check.text import summary

VALUES = [
    None, True, -1, 0, 1, 1.5, float("nan"), float("inf"), 1e300, 2**70, "", "x", "../../up.jpg", "/root.jpg", "a\0b",
    "\ud800", [], [1, 2, 3, 4], [[1, 2]], {}, {"id": 3}, [0, 0, 1, 1], [5, 5, -3, 2], [[0, 0, 1e9, 0, 5, 5]],
    {"size": [90, 120], "counts": "abc"}, {"size": [90, 120], "counts": [10800]},
]  # fmt: skip


def damage(content: dict, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 4)):
        entries = content[rng.choice(["images", "annotations", "annotations", "categories"])]
        if not entries:
            continue
        place, kind = rng.randrange(len(entries)), rng.random()
        entry = entries[place]
        if kind < 0.6 and isinstance(entry, dict) and entry:
            entry[rng.choice(list(entry))] = copy.deepcopy(rng.choice(VALUES))
        elif kind < 0.7:
            entries[place] = copy.deepcopy(rng.choice(VALUES))
        elif kind < 0.8:
            entries.append(copy.deepcopy(entry))
        elif kind < 0.9:
            del entries[place]
        elif kind < 0.95:
            entries.clear()
        elif isinstance(entry, dict) and entry:
            del entry[rng.choice(list(entry))]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    data = DataSet(6, 3)
    return data.content, data.write(tmp_path_factory.mktemp("data") / "set")


@pytest.mark.parametrize("seed", range(24))
def test_damaged_entries(whole, tmp_path, seed):
    content, root = copy.deepcopy(whole[0]), whole[1]
    rng = random.Random(seed)
    for split in content.values():
        damage(split, rng)
    setup = experiment(root)
    splits = [Split(name, own, str(root / name)) for name, own in content.items()]
    report = check_splits(splits, setup, Depth(near=False))
    summary(report).encode()
    page(report).encode()
    json.dumps(report.to_dict())
    write_fixed(report, tmp_path / "fixed")
    fixed = {name: json.loads((tmp_path / "fixed" / "annotations" / f"{name}.json").read_text()) for name in content}
    again = [Split(name, own, str(tmp_path / "fixed" / name)) for name, own in fixed.items()]
    left = {f.kind for f in check_splits(again, setup, Depth(near=False)).findings}
    assert not left & {"missing", "unreadable", "image_invalid", "unknown_image", "unknown_category"}
    assert not left & {"box_invalid", "box_inverted", "box_no_area", "box_outside", "box_clipped"}
