"""`resdet evaluate --annotations … --results …`: anybody's results file, judged by COCO, VOC or ILSVRC."""

from typing import Any

from resdet.detection.evaluation import coco, tables
from resdet.detection.evaluation.protocols import COCO, evaluators
from resdet.errors import ConfigError
from resdet.files.atomic import write_json


def evaluate_results(
    annotations: str,
    results: str,
    kind: str = "bbox",
    per_class: bool = False,
    curves: bool = False,
    confusion: bool = False,
    json_path: str | None = None,
    engine: str = "hotcoco",
    protocol: str = "coco",
) -> dict[str, Any]:
    """Prints markdown tables, writes all figures to `json_path`, and returns the figures.

    `protocol`: coco, voc07 (eleven points), voc_area (area under the curve) or ilsvrc_det; `confusion` also tells what
    each kind of error costs (TIDE).
    """
    check(kind, curves, protocol)
    if protocol == COCO:
        evaluation = coco.match(annotations, results, kind, engine)
        figures = evaluation.summary()
    else:
        figures = evaluators[protocol](annotations, results)
    shown, written = [tables.summary_table(figures)], dict(figures)
    if per_class:
        shown.append(tables.per_class_table(figures))
    if curves:
        written["curves"] = evaluation.curves()
        shown.append(tables.curves_table(written["curves"]))
    if confusion:
        written["confusion"] = coco.confusion(annotations, results, kind)
        written["tide"] = coco.tide(annotations, results, kind)
        shown += [tables.confusion_table(written["confusion"]), tables.tide_table(written["tide"])]
    print("\n\n".join(shown))
    write_json(json_path, written)
    return figures


def check(kind: str, curves: bool, protocol: str) -> None:
    if protocol not in evaluators:
        raise ConfigError(f"There is no protocol {protocol!r}: take {', '.join(evaluators)}.")
    if protocol != COCO and (kind != "bbox" or curves):
        raise ConfigError(f"{protocol} judges boxes, without curves: take --protocol coco for masks and curves.")
