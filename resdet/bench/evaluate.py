"""COCO evaluation of a results file, including loading."""

import contextlib
import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from resdet.bench import coco_files
from resdet.detection.evaluation import coco
from resdet.detection.evaluation.ground_truth import Kind
from resdet.timing import Case, Side

IMAGES = {"bbox": 5_000, "segm": 500}  # the size of val2017, and a tenth of it
CHECKED = 50  # number of images on which the evaluators must agree before they are timed
TOLERANCE = 1e-9


def cases(boxes: int = IMAGES["bbox"], masks: int = IMAGES["segm"]) -> Iterator[Case]:
    counts: dict[Kind, int] = {"bbox": boxes, "segm": masks}
    for kind, images in counts.items():
        with TemporaryDirectory() as folder:
            checked = agreement(*write_files(Path(folder), min(CHECKED, images), kind), kind)
            annotations, results = write_files(Path(folder), images, kind)
            note = f"{checked}; {size_of(annotations)} of annotations, {size_of(results)} of results"
            sides: dict[str, Side] = {
                "pycocotools": partial(by_pycocotools, annotations, results, kind),
                "resdet": partial(coco.evaluate, annotations, results, kind),
            }
            name = f"{kind}: {images} images, {images * coco_files.DETECTIONS} detections"
            yield Case(name, 1, sides, note, unit="s", warm=False)


def write_files(folder: Path, images: int, kind: Kind) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    objects = coco_files.make_objects(images, rng)
    annotations, results = folder / "annotations.json", folder / "results.json"
    coco_files.write_annotations(annotations, objects, images)
    coco_files.write_results(results, *coco_files.make_detections(objects, images, rng), masks=kind == "segm")
    return annotations, results


def by_pycocotools(annotations: Path, results: Path, kind: Kind) -> np.ndarray:
    """Returns the twelve metrics that pycocotools prints."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        evaluator = COCOeval(truth, truth.loadRes(str(results)), kind)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator.stats


def agreement(annotations: Path, results: Path, kind: Kind) -> str:
    """Returns a note on how well the twelve metrics agree; raises RuntimeError if they do not."""
    expected, metrics = by_pycocotools(annotations, results, kind), coco.evaluate(annotations, results, kind)
    names = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
    difference = max(abs(float(value) - metrics[name]) for value, name in zip(expected, names))
    if not difference < TOLERANCE:
        raise RuntimeError(f"The metrics of the evaluators differ by {difference:.1e}.")
    return f"AP {metrics['AP']:.3f} on {CHECKED} images by both, all twelve metrics within {difference:.0e}"


def size_of(file: Path) -> str:
    return f"{file.stat().st_size / 2**20:.0f} MB"
