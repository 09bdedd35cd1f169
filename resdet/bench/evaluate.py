"""COCO's evaluation of a results file, from the two files to the average precision, loading included."""

import contextlib
import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from resdet.bench import coco_files
from resdet.detection.evaluation import coco
from resdet.timing import Case

IMAGES = {"bbox": 5_000, "segm": 500}  # val2017's, and a tenth of it
CHECKED = 50  # images on which the two must agree before they are timed
TOLERANCE = 1e-9


def cases(boxes: int = IMAGES["bbox"], masks: int = IMAGES["segm"]) -> Iterator[Case]:
    for kind, images in (("bbox", boxes), ("segm", masks)):
        with TemporaryDirectory() as folder:
            apart = agreement(*write_files(Path(folder), min(CHECKED, images), kind), kind)
            annotations, results = write_files(Path(folder), images, kind)
            note = f"{apart}; {size_of(annotations)} of annotations, {size_of(results)} of results"
            sides = {
                "pycocotools": partial(by_pycocotools, annotations, results, kind),
                "resdet": partial(coco.evaluate, annotations, results, kind),
            }
            name = f"{kind}: {images} images, {images * coco_files.DETECTIONS} detections"
            yield Case(name, 1, sides, note, unit="s", warm=False)


def write_files(folder: Path, images: int, kind: str) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    objects = coco_files.make_objects(images, rng)
    annotations, results = folder / "annotations.json", folder / "results.json"
    coco_files.write_annotations(annotations, objects, images)
    coco_files.write_results(results, *coco_files.make_detections(objects, images, rng), masks=kind == "segm")
    return annotations, results


def by_pycocotools(annotations: Path, results: Path, kind: str) -> np.ndarray:
    """The twelve figures that it prints."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        judge = COCOeval(truth, truth.loadRes(str(results)), kind)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge.stats


def agreement(annotations: Path, results: Path, kind: str) -> str:
    """How well the twelve figures agree; an error where they do not."""
    theirs, ours = by_pycocotools(annotations, results, kind), coco.evaluate(annotations, results, kind)
    names = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
    apart = max(abs(float(their) - ours[name]) for their, name in zip(theirs, names))
    if not apart < TOLERANCE:
        raise RuntimeError(f"The evaluators' figures differ by {apart:.1e}.")
    return f"AP {ours['AP']:.3f} on {CHECKED} images by both, all twelve figures within {apart:.0e}"


def size_of(file: Path) -> str:
    return f"{file.stat().st_size / 2**20:.0f} MB"
