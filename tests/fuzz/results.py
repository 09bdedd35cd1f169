"""Damaged results files and ground truth, evaluated as by `resdet evaluate` with both engines and every protocol."""

import copy
import json
import random
from functools import cache
from pathlib import Path
from typing import Any

import coco_scenes
from fuzz.cases import Broken, Case, Trial
from fuzz.damage import (
    COORDINATES,
    COUNTS,
    NUMBERS,
    damage_bytes,
    damage_text,
    deep,
    mutate_tree,
    mutations,
    odd_value,
    to_json,
)

from resdet.commands.evaluate_results import evaluate_results
from resdet.detection.evaluation.protocols import evaluators

TRUTH, RESULTS = "truth.json", "results.json"
ENGINES = ("hotcoco", "pycocotools")
SCENES = (1, 2, 3, 4, 6, 7)  # seeds of coco_scenes with few detections
MOST = 12  # detections per case


@cache
def scene(seed: int) -> tuple[dict, list[dict]]:
    truth, results = coco_scenes.make(seed)
    return truth, results[:MOST]


def make_case(rng: random.Random) -> Case:
    truth, results = copy.deepcopy(scene(rng.choice(SCENES)))
    kind = rng.choice(["bbox", "segm", "segm"])
    if kind == "segm" and rng.random() < 0.7:  # hotcoco then reads the file directly
        for entry in results:
            entry.pop("bbox")
    tree: Any = results
    for _ in range(mutations(rng)):
        tree = rng.choice([odd_mask, odd_mask, odd_field, mutate_tree, mutate_tree])(rng, tree)
    told: Any = truth
    if rng.random() < 0.25:
        for _ in range(mutations(rng)):
            told = rng.choice([mutate_tree, odd_truth])(rng, told)
    texts = {TRUTH: to_json(told), RESULTS: to_json(tree)}
    files = {name: text.encode("utf-8", "surrogatepass") for name, text in texts.items()}
    draw = rng.random()
    if draw < 0.06:
        files[RESULTS] = damage_text(rng, texts[RESULTS]).encode("utf-8", "surrogatepass")
    elif draw < 0.1:
        files[RESULTS] = rng.choice(
            [damage_bytes(rng, files[RESULTS]), b"", b"[]", b"{}", b"\xef\xbb\xbf[]", files[TRUTH]]
        )
    elif draw < 0.12:
        files[TRUTH] = damage_bytes(rng, files[TRUTH])
    return Case(files, {"kind": kind, "confusion": rng.random() < 0.5, "curves": rng.random() < 0.3})


def entries_of(tree: Any) -> list[dict]:
    return [entry for entry in tree if isinstance(entry, dict)] if isinstance(tree, list) else []


def odd_mask(rng: random.Random, tree: Any) -> Any:
    """Damages the RLE of one mask: a character, the sum, a sign or the size."""
    masks = [e["segmentation"] for e in entries_of(tree) if isinstance(e.get("segmentation"), dict)]
    mask = rng.choice(masks or [{}])
    counts, kind = mask.get("counts"), rng.randrange(10)
    if not isinstance(counts, str) or not counts:
        return tree
    at = rng.randrange(len(counts))
    if kind < 4:
        mask["counts"] = counts[:at] + chr(rng.choice([*range(48, 112), 33, 127, 0, 233])) + counts[at + 1 :]
    elif kind == 4:
        mask["counts"] = counts[:at] + counts[at + 1 :]
    elif kind == 5:
        mask["counts"] = counts[:at] + rng.choice("0Po`~") * rng.choice([1, 2, 7, 100]) + counts[at:]
    elif kind == 6:
        mask["counts"] = copy.deepcopy(rng.choice(COUNTS))
    elif kind == 7:
        mask["counts"] = counts[:at]
    elif kind == 8:
        mask["size"] = rng.choice(
            [mask.get("size", [])[::-1], [0, 0], [-1, -1], [2**31, 2**31], [10**5, 10**5], [1, 1], "ab", 7, [1]]
        )
    else:
        area = 1
        for side in mask["size"] if isinstance(mask.get("size"), list) else []:
            area *= side if isinstance(side, int) else 1
        mask["counts"] = rng.choice(
            [[area], [0, area], [area + 1], [area - 1], [-5, area + 5], [area / 2] * 2, [1] * 7]
        )
    return tree


def odd_field(rng: random.Random, tree: Any) -> Any:
    """Damages a box, a score, an id or a mask of one detection, or of all."""
    entries = entries_of(tree)
    key = rng.choice(["bbox", "score", "image_id", "category_id", "segmentation"])
    chosen = entries if rng.random() < 0.05 else rng.sample(entries, min(1, len(entries)))
    for entry in chosen:
        if key == "bbox" and isinstance(entry.get("bbox"), list) and entry["bbox"] and rng.random() < 0.8:
            entry["bbox"][rng.randrange(len(entry["bbox"]))] = rng.choice(COORDINATES + NUMBERS)
        elif rng.random() < 0.2:
            entry.pop(key, None)
        else:
            entry[key] = deep(rng) if rng.random() < 0.05 else odd_value(rng, entry.get(key))
    return tree


def odd_truth(rng: random.Random, tree: Any) -> Any:
    """Damages an object or the size of an image in the ground truth."""
    if not isinstance(tree, dict):
        return tree
    name = rng.choice(["annotations", "images"])
    entries = entries_of(tree.get(name))
    for entry in rng.sample(entries, min(1, len(entries))):
        if name == "images":
            entry[rng.choice(["width", "height", "id"])] = rng.choice(NUMBERS)
        elif isinstance(entry.get("segmentation"), list) and entry["segmentation"] and rng.random() < 0.5:
            ring = entry["segmentation"][0]
            if isinstance(ring, list) and ring:
                ring[rng.randrange(len(ring))] = rng.choice(COORDINATES)
        else:
            entry[rng.choice(["area", "iscrowd", "bbox", "segmentation", "id"])] = odd_value(rng)
    return tree


def run_case(folder: Path, options: dict[str, Any], trial: Trial) -> None:
    """Checks that both engines either refuse the files or give equal metrics."""
    paths = str(folder / TRUTH), str(folder / RESULTS)
    figures = {}
    for engine in ENGINES:
        words = {"kind": options["kind"], "per_class": True, "curves": options["curves"], "engine": engine}
        confusion = options["confusion"] and engine == "hotcoco"
        out = str(folder / f"{engine}.json")
        figures[engine] = trial.attempt(evaluate_results, *paths, confusion=confusion, json_path=out, **words)
        if figures[engine] is not None:
            json.loads(Path(out).read_text(), parse_constant=refuse_constant)
    if options["kind"] == "bbox":
        for protocol in evaluators:
            trial.attempt(evaluate_results, *paths, per_class=True, protocol=protocol)
    compare(*figures.values(), [str(error) for error in trial.errors])


def refuse_constant(text: str) -> None:
    raise Broken(f"{text} among the figures")


def compare(fast: Any, reference: Any, errors: list[str]) -> None:
    if (fast is None) != (reference is None):
        judged, refused = ENGINES if reference is None else ENGINES[::-1]
        raise Broken(f"{judged} judges what {refused} refuses: {errors[0] if errors else ''}")
    if fast is not None and (named := differing(fast, reference)):
        raise Broken(f"the engines differ in {named}")


def differing(fast: dict, reference: dict, prefix: str = "") -> str:
    if set(fast) != set(reference):
        return f"{prefix}names"
    for name, value in fast.items():
        other = reference[name]
        if isinstance(value, dict):
            if found := differing(value, other, f"{prefix}{name} "):
                return found
        elif value != other and (None in (value, other) or abs(value - other) > 1e-9):
            return f"{prefix}{name}: {value} and {other}"
    return ""
