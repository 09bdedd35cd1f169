"""Damaged annotation files (COCO JSON, VOC XML), read and used for training and evaluation."""

import copy
import random
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch  # noqa: F401  imported here so that no case is charged for the import
from fuzz.cases import Broken, Case, Trial
from fuzz.damage import (
    COORDINATES,
    COUNTS,
    STRINGS,
    Raw,
    damage_bytes,
    damage_text,
    mutate_tree,
    mutations,
    odd_value,
    to_json,
)

from resdet.detection.data.annotations import Annotations
from resdet.detection.data.augment_config import SceneConfig
from resdet.detection.data.buckets import buckets, training_shape
from resdet.detection.data.coco import open_coco
from resdet.detection.data.collate import TargetFormat, collate_scenes
from resdet.detection.data.loader import EvaluationSamples, SceneSamples, collate_evaluation
from resdet.detection.data.transforms import TrainScene
from resdet.detection.data.voc import open_voc
from resdet.detection.evaluation import coco
from resdet.detection.evaluation.protocols import evaluators
from resdet.errors import Error
from resdet.images.resize import resize

FILE = "annotations.json"
ENCODINGS = ["utf-8", "UTF-16", "utf-99", "ascii", "latin1", "utf-7", "idna", "rot13", "hex", "cp037", "", "x" * 300]


@cache
def pictures() -> dict[str, bytes]:
    """Returns three images of 24 × 16 pixels and one of 8 × 40."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 24, 3), dtype=np.uint8)
    shown = {"a.png": noise[:16], "b.jpg": noise[8:24], "c.png": noise[20:36], "d.png": noise[:, :8]}
    return {f"images/{name}": cv2.imencode(name[1:], pixels)[1].tobytes() for name, pixels in shown.items()}


def make_case(rng: random.Random) -> Case:
    options = {
        "on_bad": rng.choice(["skip", "skip", "error"]),
        "mask_size": rng.choice([None, 14]),
        "augment": rng.choice(["plain", "jitter", "mosaic", "paste"]),
        "seed": rng.randrange(1000),
    }
    kept = {name: content for name, content in pictures().items() if rng.random() < 0.95}
    make = rng.choice([coco_case, coco_case, coco_case, voc_case])
    files, found = make(rng)
    return Case(kept | files, options | found)


def coco_case(rng: random.Random) -> tuple[dict[str, bytes], dict[str, Any]]:
    tree = rng.choice([plain_file, runs_file, lvis_file, boxes_file, empty_file])(rng)
    for _ in range(mutations(rng)):
        tree = rng.choice(
            [odd_coordinates, odd_runs, odd_identity, odd_identity, mutate_tree, mutate_tree, mutate_tree]
        )(rng, tree)
    text = to_json(tree)
    draw = rng.random()
    if draw < 0.08:
        text = damage_text(rng, text)
    elif draw < 0.12:
        text = doubled_key(rng, text)
    data = text.encode("utf-8", "surrogatepass")
    if draw > 0.97:
        data = rng.choice(
            [text.encode("utf-16", "surrogatepass"), b"\xef\xbb\xbf" + data, damage_bytes(rng, data), b"", data + data]
        )
    masked = any("segmentation" in entry for entry in each(tree, "annotations"))
    return {FILE: data}, {"format": "coco", "kind": rng.choice(["bbox", "segm"]) if masked else "bbox"}


def annotation(number: int, image: int, category: int, box: list[float], **more: Any) -> dict[str, Any]:
    about = {"id": number, "image_id": image, "category_id": category, "bbox": box, "iscrowd": 0}
    return about | {"area": box[2] * box[3]} | more


def polygon(x: float, y: float, w: float, h: float) -> list[list[float]]:
    return [[x, y, x + w, y, x + w, y + h, x + w / 2, y + h / 2, x, y + h]]


def plain_file(rng: random.Random) -> dict[str, Any]:
    """Returns a COCO annotation file with polygons."""
    boxes = [(1, 1, [2, 3, 10, 8]), (1, 2, [0, 0, 24, 16]), (2, 3, [5.5, 4.25, 6.5, 9]), (3, 1, [20, 10, 4, 6])]
    return {
        "info": {"description": "a test"},
        "images": [
            {"id": 1, "file_name": "a.png", "width": 24, "height": 16},
            {"id": 2, "file_name": "b.jpg", "width": 24, "height": 16},
            {"id": 3, "file_name": "c.png", "width": 24, "height": 16},
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 3, "name": "bird"}],
        "annotations": [
            annotation(n, image, category, list(box), segmentation=polygon(*box))
            for n, (image, category, box) in enumerate(boxes, 1)
        ],
    }


def runs_file(rng: random.Random) -> dict[str, Any]:
    """Adds masks as uncompressed and compressed RLE, one of them a crowd."""
    tree = plain_file(rng)
    tree["annotations"][1] |= {"segmentation": {"size": [16, 24], "counts": [20, 8, 8, 8, 340]}, "iscrowd": 1}
    tree["annotations"][2] |= {"segmentation": {"size": [16, 24], "counts": "d29700000000000l5"}}
    return tree


def lvis_file(rng: random.Random) -> dict[str, Any]:
    """Returns a file like LVIS's, with URLs instead of file names and partly without widths."""
    tree = plain_file(rng)
    for image in tree["images"]:
        image["coco_url"] = f"http://images.cocodataset.org/{image.pop('file_name')}"
        if rng.random() < 0.5:
            del image["width"]
        image |= {"not_exhaustive_category_ids": [1], "neg_category_ids": [2]}
    return tree


def boxes_file(rng: random.Random) -> dict[str, Any]:
    """Returns a file without masks, areas and iscrowd, as labeling tools write it."""
    tree = plain_file(rng)
    for entry in tree["annotations"]:
        for key in ("segmentation", "area", "iscrowd"):
            del entry[key]
    return tree


def empty_file(rng: random.Random) -> dict[str, Any]:
    return plain_file(rng) | {"annotations": []}


def each(tree: Any, key: str) -> list[dict]:
    entries = tree.get(key) if isinstance(tree, dict) else None
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def odd_coordinates(rng: random.Random, tree: Any) -> Any:
    """Replaces a coordinate of a box or a polygon."""
    for entry in rng.sample(each(tree, "annotations"), min(1, len(each(tree, "annotations")))):
        target = entry.get(rng.choice(["bbox", "segmentation"]))
        if isinstance(target, list) and target and isinstance(target[0], list):
            target = target[0]
        if isinstance(target, list) and target:
            target[rng.randrange(len(target))] = rng.choice(COORDINATES)
    return tree


def odd_runs(rng: random.Random, tree: Any) -> Any:
    for entry in rng.sample(each(tree, "annotations"), min(1, len(each(tree, "annotations")))):
        size = [16, 24] if rng.random() < 0.8 else [rng.choice([0, -1, 16, 2**31, 10**9]), 24]
        entry["segmentation"] = {"size": size, "counts": rng.choice(COUNTS)}
    return tree


def odd_identity(rng: random.Random, tree: Any) -> Any:
    """Duplicates, removes or replaces an id, a name or a size."""
    entries = each(tree, rng.choice(["images", "categories", "annotations"]))
    if entries:
        entry = rng.choice(entries)
        key = rng.choice([key for key in entry if key in NAMES] or ["id"])
        draw = rng.random()
        if draw < 0.4:
            entry[key] = copy.deepcopy(rng.choice(entries).get(key))
        elif draw < 0.5:
            entry.pop(key, None)
        else:
            entry[key] = rng.choice(STRINGS) if isinstance(entry.get(key), str) else odd_value(rng, entry.get(key))
    return tree


NAMES = ("id", "image_id", "category_id", "file_name", "name", "coco_url", "width", "height", "iscrowd", "area")


def doubled_key(rng: random.Random, text: str) -> str:
    key = rng.choice(['"id": ', '"images": ', '"bbox": ', '"name": ', '"width": '])
    return text.replace(key, f"{key}{rng.choice(['1', '[]', 'null', 'NaN', '9' * 400])}, {key}", rng.choice([1, 100]))


# VOC: an element is a list [tag, text or list of elements].


def voc_case(rng: random.Random) -> tuple[dict[str, bytes], dict[str, Any]]:
    files, stems = {}, ["a", "b", "c"]
    damaged = rng.choice(stems)
    for stem in stems:
        tree = voc_tree(stem)
        if stem == damaged:
            for _ in range(mutations(rng)):
                mutate_element(rng, tree)
        files[f"xml/{stem}.xml"] = xml_bytes(rng, tree, stem == damaged)
    options: dict[str, Any] = {"format": "voc", "classes": rng.choice([None, None, ["cat", "dog"], []])}
    if rng.random() < 0.3:
        lines = "\n".join(rng.sample([*stems, "a 1", "b -1", "missing", *STRINGS], 4))
        files["set.txt"] = lines.encode("utf-8", rng.choice(["surrogatepass", "replace"]))
        options["image_set"] = "set.txt"
    if rng.random() < 0.1:
        name = rng.choice(["é", "a b", "x" * 200, "..a", "a.b.c", "-", "%s"])
        files[f"xml/{name}.xml"] = xml_bytes(rng, voc_tree(name), False)
    return files, options


def voc_tree(stem: str) -> list:
    def thing(name: str, *corners: int) -> list:
        box = [[tag, str(value)] for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), corners)]
        return ["object", [["name", name], ["truncated", "0"], ["difficult", "0"], ["bndbox", box]]]

    size = ["size", [["width", "24"], ["height", "16"], ["depth", "3"]]]
    things = [thing("cat", 2, 3, 12, 10), thing("dog", 1, 1, 24, 16)]
    return ["annotation", [["filename", f"{stem}.png"], size, *things]]


def elements(tree: list) -> list[list]:
    return [tree, *(found for child in tree[1] for found in elements(child))] if isinstance(tree[1], list) else [tree]


def mutate_element(rng: random.Random, tree: list) -> None:
    found = elements(tree)
    element = rng.choice([e for e in found if isinstance(e[1], str)] if rng.random() < 0.6 else found)
    parent = next((e for e in found if isinstance(e[1], list) and any(child is element for child in e[1])), tree)
    kind = rng.randrange(8)
    if kind < 3 or not isinstance(parent[1], list):
        value = rng.choice([*COORDINATES, *STRINGS, odd_value(rng)])
        element[1] = value if isinstance(value, str) else str(value)[:6000] if not isinstance(value, Raw) else "1"
    elif kind == 3 and parent is not element:
        parent[1].remove(element)
    elif kind == 4:
        parent[1].append(copy.deepcopy(element))
    elif kind == 5:
        element[0] = rng.choice(["object", "name", "size", "a", "xmin", "ä", "x" * 5000])
    elif kind == 6:
        element[1] = [copy.deepcopy(element)]
    else:
        text = element[1] if isinstance(element[1], str) else ""
        element[1] = f"<a>{'<b>' * (depth := rng.choice([10, 1000, 30_000]))}{text}{'</b>' * depth}</a>"


def xml_of(tree: list) -> str:
    content = tree[1] if isinstance(tree[1], str) else "".join(xml_of(child) for child in tree[1])
    return f"<{tree[0]}>{content}</{tree[0]}>"


def xml_bytes(rng: random.Random, tree: list, damaged: bool) -> bytes:
    text = xml_of(tree)
    draw = rng.random() if damaged else 1
    if draw < 0.1:
        text = damage_text(rng, text)
    elif draw < 0.15:
        text = f'<?xml version="1.0" encoding="{rng.choice(ENCODINGS)}"?>{text}'
    elif draw < 0.2:
        bomb = '<!ENTITY a0 "lol">' + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
        doctype = rng.choice([bomb, '<!ENTITY a11 SYSTEM "file:///etc/passwd">', '<!ENTITY a11 "&a11;">'])
        text = f"<!DOCTYPE annotation [{doctype}]>{text.replace('cat', '&a11;', 1)}"
    elif draw < 0.24:
        return text.encode(rng.choice(["utf-16", "utf-32", "utf-16-le"]), "surrogatepass")
    data = text.encode("utf-8", "surrogatepass")
    return damage_bytes(rng, data) if draw > 0.92 and damaged else data


# Reading and use of the files.


def run_case(folder: Path, options: dict[str, Any], trial: Trial) -> None:
    source = trial.attempt(OPENERS[options["format"]], folder, options)
    if source is not None:
        trial.skipped |= bool(source.problems)
        trial.attempt(use, source, options, trial)
    if options["format"] == "coco":
        for engine in ("hotcoco", "pycocotools"):
            found = detections([1, 2, 3], [1, 2, 3])
            trial.attempt(coco.evaluate, folder / FILE, found, options["kind"], engine)


def open_coco_case(folder: Path, options: dict[str, Any]) -> Annotations:
    return open_coco(folder / FILE, folder / "images", options["on_bad"], folder / "cache")


def open_voc_case(folder: Path, options: dict[str, Any]) -> Annotations:
    image_set = folder / options["image_set"] if "image_set" in options else None
    return open_voc(
        folder / "xml", folder / "images", image_set, options["classes"], options["on_bad"], folder / "cache"
    )


OPENERS: dict[str, Callable] = {"coco": open_coco_case, "voc": open_voc_case}
AUGMENTED = {
    "plain": {},
    "jitter": {"scale_jitter": (0.5, 2.0), "jitter_size": 32},
    "mosaic": {"mosaic": 1.0, "crop": 1.0},
    "paste": {"copy_paste": 1.0},
}


def use(source: Annotations, options: dict[str, Any], trial: Trial) -> None:
    """Runs the steps of training and evaluation on the annotations."""
    sums = source.label_counts(), source.images_with()
    assert all(len(counts) == len(source.classes) for counts in sums)
    print(*source.classes, *source.problems)
    for train in (True, False):
        trial.attempt(make_batch, source, options, train)
    trial.attempt(judge, source, trial)


def make_batch(source: Annotations, options: dict[str, Any], train: bool) -> None:
    if not len(source):
        return
    augment = AUGMENTED[options["augment"] if source.has_masks else "plain"]
    scene = SceneConfig(min_size=[32], max_size=48, **augment)
    shape = partial(training_shape, shapes=buckets(*(scene.limits() if train else (32, 48))))
    form = TargetFormat(100, options["mask_size"])
    if train:
        samples = SceneSamples(source, TrainScene(scene), options["seed"], "skip")
        collate_scenes([samples[position, position % len(source)] for position in range(4)], shape, form)
    else:
        samples = EvaluationSamples(source, partial(resize, short=32, long=48), "skip")
        collate_evaluation([samples[index] for index in range(min(4, len(source)))], shape, form)


def judge(source: Annotations, trial: Trial) -> None:
    """Evaluates detections under every protocol; annotations accepted for training must be accepted for evaluation."""
    truth = source.to_coco()
    found = detections([source.result_id(i) for i in range(len(source))], source.category_ids)
    try:
        judge_boxes(truth, found)
    except Error as error:
        raise Broken(f"evaluation refuses what training takes: {error}") from error
    if source.has_masks:
        trial.attempt(judge_kind, truth, found, "segm")


def judge_boxes(truth: dict, found: list[dict]) -> None:
    judge_kind(truth, found, "bbox")
    for protocol in evaluators:
        evaluators[protocol](truth, found)


def judge_kind(truth: dict, found: list[dict], kind: str) -> None:
    for engine in ("hotcoco", "pycocotools"):
        coco.evaluate(truth, found, kind, engine)
    coco.confusion(truth, found, kind)
    coco.tide(truth, found, kind)


def detections(images: list[int], categories: list[int]) -> list[dict]:
    """Returns one detection with a mask for each of the first categories in each of the first images."""
    mask = {"size": [16, 24], "counts": "d29700000000000l5"}
    return [
        {"image_id": image, "category_id": category, "bbox": [2, 3, 10, 8], "score": 0.9 - k / 10, "segmentation": mask}
        for image in images[:3]
        for k, category in enumerate(categories[:3])
    ]
