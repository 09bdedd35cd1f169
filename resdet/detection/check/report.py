"""Checks all splits of a data set for training with a config."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from resdet.detection import recipe
from resdet.detection.check.anchors import AnchorGrid, grid_of
from resdet.detection.check.boxes import check_boxes
from resdet.detection.check.categories import check_categories
from resdet.detection.check.duplicates import check_duplicates
from resdet.detection.check.files import check_files
from resdet.detection.check.finding import KINDS, SEVERITIES, Finding
from resdet.detection.check.fit import AnchorFit, Imbalance, crowded, fit_anchors, imbalance, tiny
from resdet.detection.check.masks import check_masks
from resdet.detection.check.split import Split
from resdet.detection.check.statistics import class_statistics
from resdet.detection.config import DetectionExperiment
from resdet.detection.data.config import ScenesConfig
from resdet.detection.recipe import Choice
from resdet.errors import DataError

TEST = "test"  # the split that training never reads


class Depth(NamedTuple):
    """What to read beyond annotations and headers."""

    near: bool = True  # decode images at low resolution, to find near-duplicates
    decode: bool = False  # decode all images


DEPTH = Depth()


@dataclass
class Report:
    """Findings, ordered by severity and kind, and statistics for training with the config."""

    splits: list[Split]
    findings: list[Finding]
    statistics: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # by split, one dict per class
    anchors: dict[str, AnchorFit] = field(default_factory=dict)  # by split
    grid: AnchorGrid | None = None
    imbalance: Imbalance | None = None  # of the training split
    choices: list[Choice] = field(default_factory=list)  # for the keys that are `auto`

    def count(self, severity: str) -> int:
        return sum(finding.severity == severity for finding in self.findings)

    def by_kind(self) -> dict[str, list[Finding]]:
        """Returns the findings by kind, worst first."""
        return {
            kind: findings
            for severity in SEVERITIES
            for kind in KINDS
            if KINDS[kind].severity == severity and (findings := [each for each in self.findings if each.kind == kind])
        }

    def to_dict(self) -> dict[str, Any]:
        return {
            "splits": {split.name: size_of_split(split) for split in self.splits},
            "counts": {severity: self.count(severity) for severity in SEVERITIES},
            "kinds": dict(Counter(finding.kind for finding in self.findings)),
            "findings": [finding.to_dict() for finding in self.findings],
            "classes": self.statistics,
            "anchors": {split: self._anchors(fit) for split, fit in self.anchors.items()},
            "repeat_factor": self._repeats(),
            "choices": {choice.key: choice.value for choice in self.choices},
        }

    def _anchors(self, fit: AnchorFit) -> dict[str, Any]:
        assert self.grid
        content: dict[str, Any] = {"config": self.grid.line, "recall": fit.recall, "objects": fit.count}
        return content | ({"better": fit.better.line, "better_recall": fit.better_recall} if fit.better else {})

    def _repeats(self) -> dict[str, Any] | None:
        if not self.imbalance:
            return None
        return {
            "threshold": self.imbalance.threshold,
            "epoch": self.imbalance.epoch,
            "images_per_epoch": self.imbalance.repeated.round(1).tolist(),
            "images": self.imbalance.uniform.tolist(),
        }


def size_of_split(split: Split) -> dict[str, int]:
    return {"images": len(split.files), "annotations": len(split.annotations), "categories": len(split.classes)}


def check_config(experiment: DetectionExperiment, depth: Depth = DEPTH) -> Report:
    """Checks the data of a config; a split that cannot be opened is a finding, except for training."""
    data = experiment.scenes
    splits: list[Split] = []
    failures = []
    for name in data.splits:
        try:
            split = Split.open(name, data)
        except DataError as error:
            failures.append(Finding("cannot_open", name, str(error)))
            continue
        if name != TEST or split.paths() not in [other.paths() for other in splits]:  # files may name `val` as test set
            splits.append(split)
    if not splits or splits[0].name == TEST:
        raise DataError(failures[0].sentence)
    return check_splits(splits, experiment, depth, failures)


def check_splits(
    splits: Sequence[Split],
    experiment: DetectionExperiment,
    depth: Depth = DEPTH,
    known: Sequence[Finding] = (),
) -> Report:
    """Checks these splits, the training split first; `known`: earlier findings."""
    table = splits[0].objects()
    experiment, sizes = recipe.complete(experiment, table, recipe.SIZE_RULES)  # the other keys keep their defaults
    data, grid = experiment.scenes, grid_of(experiment.model)
    findings = list(known)
    report = Report(list(splits), findings, grid=grid)
    for split in splits:
        findings += split.findings
        findings += check_files(split, depth.decode)
        findings += check_boxes(split)
        findings += check_masks(split)
        report.statistics[split.name] = class_statistics(split.objects(), data.augment)
        if split.name != TEST:
            findings += _check_fit(split, data, grid, report)
    findings += check_categories([split for split in splits if split.name != TEST or len(split.annotations)])
    findings += check_duplicates(splits, depth.near)
    findings += _check_balance(splits[0], data, report)
    anchors = lambda experiment, _: recipe.fitted_anchors(experiment, report.anchors[splits[0].name])
    report.choices = sizes + recipe.complete(experiment, table, {**recipe.RULES, "model.rpn.anchors": anchors})[1]
    return report


def _check_fit(split: Split, data: ScenesConfig, grid: AnchorGrid, report: Report) -> list[Finding]:
    """Returns findings about training with the config; stores the fit of the anchors in the report."""
    table, rows = split.objects(), split.usable()
    fit = fit_anchors(table, data, grid, search=split is report.splits[0])
    report.anchors[split.name] = fit
    findings = []
    boxes, _ = table.resized(data.augment)
    for i in tiny(table, data).tolist():
        width, height = (boxes[i, 2:] - boxes[i, :2]).tolist()
        name = split.annotation_name(int(rows[i]))
        sentence = f"annotation {name} has {width:.1f}x{height:.1f} pixels at the training scale"
        findings.append(split.of_object("tiny", int(rows[i]), sentence, width=width, height=height))
    for image, count in crowded(table, data):
        sentence = f"{split.files[image]} has {count} objects: the {data.max_objects} largest are used"
        findings.append(split.finding("crowded", sentence, image, objects=count))
    if fit.too_low:
        sentence = (
            f"no anchor overlaps {len(fit.unmatched)} of {fit.count} objects ({1 - fit.recall:.1%}) of {split.name} "
            f"with an IoU of 0.5 at the training scale"
        )
        findings.append(split.finding("anchors", sentence, None, rows[fit.unmatched], recall=fit.recall))
    return findings


def _check_balance(split: Split, data: ScenesConfig, report: Report) -> list[Finding]:
    balance = imbalance(split.objects(), data)
    report.imbalance = balance
    names, most = list(split.classes.values()), int(balance.uniform.max(initial=0))
    if data.sampling != "uniform":
        return []
    return [
        split.finding(
            "imbalance",
            f"{names[label]} is in {balance.uniform[label]} images, the most frequent category in {most}; with "
            f"data.sampling=repeat_factor data.repeat_threshold={balance.threshold:.2g}, in "
            f"{balance.repeated[label]:.0f} of {balance.epoch:.0f} per epoch",
            category=names[label],
            images=int(balance.uniform[label]),
            expected=float(balance.repeated[label]),
        )
        for label in balance.rare().tolist()
    ]
