"""Measures the AP of box refinement, voting, global context, multi-scale testing, flipping and ensembles (appendix B).

    python tools/measure_tta.py --weights a.pth b.pth c.pth --annotations FILE --images FOLDER --scales 200 320 480
                                [--context d.pth e.pth f.pth] [--mode fast] [--rows context …] [--json FILE]

The detectors, such as those of several seeds, have the same classes; those of --context were trained with
`model.box.context=true`. A row has the mean over the detectors, or their ensemble, and the differences from the mean of
the plain detectors with 95 % intervals of a paired bootstrap over the images.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np  # noqa: E402

import resdet  # noqa: E402
from resdet.detection import Detector, EnsembleDetector, TTAConfig  # noqa: E402
from resdet.detection.evaluation.results import Results  # noqa: E402
from resdet.detection.report.bootstrap import average_precisions, overall  # noqa: E402
from resdet.detection.report.matches import Matches  # noqa: E402
from resdet.files.atomic import write_json  # noqa: E402
from resdet.files.json_file import read_json  # noqa: E402
from resdet.results.differences import interval, resample  # noqa: E402

METRICS = ("AP", "AP50", "AP75")
IOU_75 = 5  # index in COCO's IoU thresholds
PLAIN = "plain"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", nargs="+", required=True)
    parser.add_argument("--annotations", required=True, help="COCO file")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--scales", type=int, nargs="+", required=True, help="short sides")
    parser.add_argument("--context", nargs="+", default=[], help="weights of detectors with global context")
    parser.add_argument("--mode", choices=["exact", "fast"], default="exact")
    parser.add_argument("--rows", nargs="+", default=[], help="rows to measure besides the plain one (default: all)")
    parser.add_argument("--json", type=Path)
    parsed = parser.parse_args()
    models, contexts = (
        [resdet.load(path, mode=parsed.mode, expect=Detector) for path in paths]
        for paths in (parsed.weights, parsed.context)
    )
    truth = read_json(parsed.annotations)
    copies = resample(len(truth["images"]))
    chosen = variants(models, contexts, parsed.scales)
    names = [name for name, *_ in chosen]
    if unknown := {*parsed.rows} - {*names}:
        parser.error(f"--rows has {sorted(unknown)}: choose from {names}")
    rows, plain = [], np.empty(0)
    for name, members, settings in chosen:
        if parsed.rows and name not in (PLAIN, *parsed.rows):
            continue
        values = np.mean([evaluate(group, settings, truth, parsed.images, copies) for group in members], 0)
        plain = values if name == PLAIN else plain
        rows.append({"variant": name, **row(values, plain)})
        print(rows[-1], flush=True)
        if parsed.json:
            write_json(parsed.json, {"command": sys.argv[1:], "images": len(truth["images"]), "rows": rows})


Variant = tuple[str, list[list[Detector]], dict[str, Any]]


def variants(models: Sequence[Detector], contexts: Sequence[Detector], scales: list[int]) -> list[Variant]:
    """Returns for each row its name, the groups of detectors that form ensembles, and the test-time settings."""
    rows: list[Variant] = [
        (PLAIN, each(models), {}),
        ("refinement", each(models), {"refine": True, "voting_iou": None}),
        ("refinement, voting", each(models), {"refine": True}),
        ("scales", each(models), {"scales": scales}),
        ("flip", each(models), {"flip": True}),
        *combined(models, "", scales),
    ]
    return [*rows, ("context", each(contexts), {}), *combined(contexts, "context, ", scales)] if contexts else rows


def each(detectors: Sequence[Detector]) -> list[list[Detector]]:
    return [[detector] for detector in detectors]


def combined(detectors: Sequence[Detector], prefix: str, scales: list[int]) -> list[Variant]:
    """Returns the rows with all settings together, of single detectors and of an ensemble of several."""
    everything = {"refine": True, "scales": scales, "flip": True}
    together, ensemble = f"{prefix}refinement, voting, scales, flip", f"ensemble of {len(detectors)}"
    rows: list[Variant] = [(together, each(detectors), everything)]
    if len(detectors) > 1:
        rows += [(f"{prefix}{ensemble}", [[*detectors]], {}), (f"{together}, {ensemble}", [[*detectors]], everything)]
    return rows


def evaluate(
    members: Sequence[Detector], settings: dict[str, Any], truth: dict[str, Any], folder: Path, copies: np.ndarray
) -> np.ndarray:
    """Returns AP, AP50 and AP75 of the data set and of its resamples, [1 + R, 3]."""
    plain = len(members) == 1 and not settings
    detector = members[0] if plain else EnsembleDetector(members, TTAConfig(**settings))
    entries = []
    for image in truth["images"]:
        entries += detector.predict(folder / image["file_name"]).to_coco(image["id"])
    aps = average_precisions(Matches.of(truth, Results.from_list(entries)), copies)
    return np.stack([overall(aps.mean(1)), overall(aps[:, 0]), overall(aps[:, IOU_75])], 1)


def row(values: np.ndarray, plain: np.ndarray) -> dict[str, Any]:
    """Returns the metrics and the differences from the plain detectors with their intervals, in percent."""
    difference = values - plain
    result: dict[str, Any] = {}
    for column, metric in enumerate(METRICS):
        low, high = interval(difference[1:, column]) or (0.0, 0.0)
        result[metric] = round(100 * float(values[0, column]), 1)
        result[f"{metric} difference"] = [round(100 * float(x), 1) for x in (difference[0, column], low, high)]
    return result


if __name__ == "__main__":
    main()
