"""COCO's precision and recall of detections that arrive in parts, each matched and dropped before the next.

A detection takes about 130 bytes, with or without a mask. The arrays are the same as for all detections at once.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from resdet.detection.data.coco_file import objects_by_image
from resdet.detection.evaluation import ground_truth
from resdet.detection.evaluation.coco_engines import Arrays, arrays_of
from resdet.detection.evaluation.ground_truth import Kind, Truth
from resdet.detection.evaluation.results import Results


def run_stream(annotations: Truth, parts: Iterable[Results], kind: Kind, max_detections: Sequence[int]) -> Arrays:
    """Evaluates parts, each with all detections of its images; `kind`: bbox or segm."""
    import hotcoco

    truth = ground_truth.read(annotations, kind)
    images = {image["id"]: image for image in truth["images"]}
    objects = objects_by_image(truth)
    params = hotcoco.Params(kind)
    params.max_dets = list(max_detections)
    stream = hotcoco.StreamingEval(truth["categories"], iou_type=kind, params=params)
    for part in parts:
        ids = np.unique(part.image_ids).tolist()
        present = [images.pop(image) for image in ids if image in images]
        part.check({"images": present, "categories": truth["categories"]}, kind)
        stream.update(present, [entry for image in ids for entry in objects.pop(image, ())], entries_of(part, kind))
    stream.update([*images.values()], [entry for group in objects.values() for entry in group], [])
    evaluator: Any = stream.finalize()
    evaluator.accumulate()
    names = ground_truth.class_names(truth["categories"])
    return arrays_of(evaluator.eval, names, ground_truth.count_objects(truth))


def entries_of(part: Results, kind: Kind) -> np.ndarray | list[dict[str, Any]]:
    """Returns detections in hotcoco's format that uses the mask's area even if there is a box."""
    if kind == "bbox":
        return np.column_stack([part.image_ids, part.boxes, part.scores, part.category_ids])
    columns = (part.image_ids.tolist(), part.category_ids.tolist(), part.scores.tolist(), part.masks or ())
    return [dict(zip(("image_id", "category_id", "score", "segmentation"), row)) for row in zip(*columns)]
