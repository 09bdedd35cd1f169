"""`resdet evaluate --annotations … --results …`: COCO, VOC or ILSVRC metrics of any detector's results file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resdet.detection.evaluation import coco, tables
from resdet.detection.evaluation.coco import Engine
from resdet.detection.evaluation.ground_truth import Kind
from resdet.detection.evaluation.metrics import evaluate_by
from resdet.detection.evaluation.parquet_results import read_folder, read_parts
from resdet.detection.evaluation.protocols import COCO, evaluators
from resdet.errors import ConfigError
from resdet.files.atomic import write_json
from resdet.progress import Activity


def evaluate_results(
    annotations: str,
    results: str,
    kind: Kind = "bbox",
    per_class: bool = False,
    curves: bool = False,
    confusion: bool = False,
    json_path: str | None = None,
    engine: Engine = "hotcoco",
    protocol: str = "coco",
    sigmas: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Prints markdown tables, writes all metrics to `json_path`, and returns the metrics.

    `results`: a results file, or a folder written by `resdet predict --parquet`. `protocol`: coco, voc07 (eleven
    points), voc_area (area under the curve), ilsvrc_det or ilsvrc_vid. `confusion` adds the confusion matrix and the AP
    lost to each error type (TIDE). `sigmas`: of keypoints, by default COCO's.
    """
    validate(kind, curves, protocol, confusion, sigmas)
    folder = Path(results) if Path(results).is_dir() else None
    evaluation: coco.Evaluation | None
    with Activity("computing metrics"):
        if folder and protocol == COCO and kind != "keypoints" and engine == "hotcoco" and not confusion:
            evaluation = coco.match_parts(annotations, read_parts(folder, annotations, kind), kind)
        else:
            given = read_folder(folder, annotations, kind) if folder else results
            evaluation = coco.match(annotations, given, kind, engine, sigmas=sigmas) if protocol == COCO else None
        metrics = evaluation.summary() if evaluation else evaluate_by(protocol, annotations, given)
    sections, content = [tables.summary_table(metrics)], dict(metrics)
    if per_class:
        sections.append(tables.per_class_table(metrics))
    if curves and evaluation:
        content["curves"] = evaluation.curves()
        sections.append(tables.curves_table(content["curves"]))
    if confusion:
        with Activity("computing the confusion"):
            content["confusion"] = coco.confusion(annotations, given, kind)
            content["tide"] = coco.tide(annotations, given, kind)
        sections += [tables.confusion_table(content["confusion"]), tables.tide_table(content["tide"])]
    print("\n\n".join(sections))
    write_json(json_path, content)
    return metrics


def validate(kind: str, curves: bool, protocol: str, confusion: bool, sigmas: Sequence[float] | None) -> None:
    if protocol not in evaluators:
        raise ConfigError(f"There is no protocol {protocol!r}: use {', '.join(evaluators)}.")
    if protocol != COCO and (kind != "bbox" or curves):
        raise ConfigError(f"--protocol {protocol} evaluates boxes only and has no curves: use --protocol coco.")
    if kind == "keypoints" and confusion:
        raise ConfigError("--confusion compares boxes or masks, not keypoints: use --type bbox.")
    if kind != "keypoints" and sigmas:
        raise ConfigError("--sigmas are those of keypoints: use them with --type keypoints.")
