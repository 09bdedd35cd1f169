"""Categories of a model, and row-by-row transfer of the last layers between data sets with common categories.

torchvision's COCO detectors have a row for each id from 1 to 90, detectron2's and most configs one for each of the 80
categories; rows are matched by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

UNUSED = "N/A"  # name of an id without a category


@dataclass(frozen=True)
class Categories:
    """Class names of a model and their category ids."""

    names: list[str]
    ids: list[int]

    def used(self) -> list[str]:
        return [name for name in self.names if name != UNUSED]

    def keys(self, by_name: bool) -> list[tuple[int | None, str]]:
        return [(None if by_name else id, name) for id, name in zip(self.ids, self.names)]


def rows(source: Categories, target: Categories) -> list[int | None] | None:
    """Returns the source row of each target class, or None for a class that the source lacks.

    Returns None unless the categories of one data set contain those of the other, by name, or by id and name if names
    repeat; unused ids are ignored.
    """
    by_name = all(len(set(each.used())) == len(each.used()) for each in (source, target))
    source_rows, target_rows = (used_rows(each.keys(by_name)) for each in (source, target))
    if not source_rows or not target_rows:
        return None
    if not (target_rows.keys() <= source_rows.keys() or source_rows.keys() <= target_rows.keys()):
        return None
    return [source_rows.get(key) for key in target.keys(by_name)]


def used_rows(keys: list[tuple[int | None, str]]) -> dict[tuple[int | None, str], int]:
    """Returns key -> row, without unused ids."""
    return {key: row for row, key in enumerate(keys) if key[1] != UNUSED}


# Layer -> its rows per class; others have none. Layers of scores have an additional last row for the background.
ROWS = {"scores": 1, "mask_scores": 1, "boxes": 4, "masks": 1}


@torch.no_grad()
def select_rows(
    state: Mapping[str, Tensor], model: Any, source_rows: list[int | None], count: int
) -> dict[str, Tensor]:
    """Reorders the last layers in `state` to the detector's classes; classes that `state` lacks keep their values.

    `source_rows`: from `rows`; `count`: number of classes in `state`.
    """
    result, present = dict(state), model.state_dict()
    for layer in model.class_layers():
        kind = layer.rpartition(".")[2]
        if kind not in ROWS:
            continue
        per_class, background = ROWS[kind], int(kind.endswith("scores"))
        for name in (f"{layer}.weight", f"{layer}.bias"):
            source, target = state.get(name), present.get(name)
            lengths = [(per_class * n + background,) for n in (count, len(source_rows))]
            if source is not None and target is not None and [source.shape[:1], target.shape[:1]] == lengths:
                result[name] = copy_rows(source, target, source_rows, per_class, background)
    return result


def copy_rows(source: Tensor, target: Tensor, source_rows: list[int | None], per_class: int, background: int) -> Tensor:
    """Copies `target`, and takes the rows of shared classes and of the background from `source`."""
    if source.shape[1:] != target.shape[1:]:
        return source
    result = target.clone()
    for row, source_row in enumerate(source_rows):
        if source_row is not None:
            start = source_row * per_class
            result[row * per_class : (row + 1) * per_class] = source[start : start + per_class]
    if background:
        result[-1] = source[-1]
    return result
