"""Whose rules boxes are judged by besides COCO's: each gives {"mAP", "per_class"} of annotations and results."""

from functools import partial

from resdet.detection.evaluation import ilsvrc_det, voc

PROTOCOLS = {
    "voc07": partial(voc.evaluate, metric="07"),
    "voc_area": partial(voc.evaluate, metric="area"),
    "ilsvrc_det": ilsvrc_det.evaluate_det,
}
