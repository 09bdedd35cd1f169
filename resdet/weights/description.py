"""Validation of the metadata in resdet's files: experiment, classes and pixel statistics.

A `.pth` or `.pkl` stores them as values, a safetensors or ONNX file as JSON. Files are untrusted: types, lengths and
sizes are validated before anything is built.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from resdet.errors import WeightsError

MODEL_KEYS = ("experiment", "classes", "category_ids")  # needed by `resdet.load` to rebuild a model
KEYS = (*MODEL_KEYS, "normalize")
MAX_VALUES = 20_000  # values of an experiment; resdet writes about 200
MAX_PIXELS = 1_000_000  # values of a per-pixel mean
MAX_DEPTH = 32
MAX_TEXT = 10_000  # characters
MAX_CLASSES = 1_000_000
MAX_COUNT = 1_000_000  # maximum of any number in a model config: layers, channels, boxes
MAX_ENTRIES = 256  # maximum length of a list in a model config, such as anchor ratios


@dataclass
class Description:
    """The metadata of a file; None for each missing entry."""

    experiment: dict | None = None
    classes: list[str] | None = None
    category_ids: list[int] | None = None
    statistics: tuple[Tensor, Tensor] | None = None  # mean and standard deviation of pixels


def read(metadata: Mapping[str, Any], origin: str) -> Description:
    """Validates metadata; ignores unknown keys, and everything in files of other libraries."""
    if not is_ours(metadata):
        return Description()
    experiment, classes, ids, statistics = map(metadata.get, KEYS)
    result = Description(
        None if experiment is None else settings(experiment, origin),
        None if classes is None else class_names(classes, origin),
        None if ids is None else category_ids(ids, origin),
        None if statistics is None else pixel_statistics(statistics, origin),
    )
    if result.experiment and result.classes is None:
        raise WeightsError(f"{origin} has a config but no classes: export or save the model again.")
    if ids is not None and len(ids) != len(result.classes or ()):
        raise WeightsError(
            f"{origin} has {len(ids)} category_ids but {len(result.classes or ())} classes: save the model again."
        )
    return result


def is_ours(metadata: Mapping[str, Any]) -> bool:
    """Whether resdet wrote the metadata: other libraries use keys such as `experiment` and `classes` differently."""
    return any(isinstance(metadata.get(key), dict) for key in ("experiment", "normalize")) or (
        "classes" in metadata and "category_ids" in metadata
    )


def from_json(metadata: Mapping[str, str], origin: str, keys: Sequence[str]) -> dict[str, Any]:
    """Decodes the values of those `keys` that are present."""
    return {key: decode(metadata[key], f"{origin}: the metadata key {key}") for key in keys if key in metadata}


def decode(text: str, name: str) -> Any:
    """Decodes JSON; `name` starts the error message."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise WeightsError(f"{name} is not valid JSON; the file may be damaged: copy it again.") from None


def settings(experiment: Any, origin: str) -> dict:
    """Copies an experiment as a plain tree of bounded size; the config validates its keys and values."""
    if not isinstance(experiment, dict):
        raise WeightsError(
            f"{origin}: experiment must be a mapping, not {type(experiment).__name__}: save the model again."
        )
    result = PlainTree(f"{origin}: experiment", MAX_VALUES).copy(experiment)
    refuse_absurd_counts(result, origin)
    return result


class PlainTree:
    """Copies a tree of plain values; refuses one that is too large, too deep or recursive.

    `name` starts the error messages, `limit` is the maximum number of values.
    """

    def __init__(self, name: str, limit: int):
        self.name, self.limit, self.left = name, limit, limit

    def copy(self, value: Any, depth: int = 0) -> Any:
        self.left -= 1
        if self.left < 0 or depth > MAX_DEPTH:
            raise WeightsError(
                f"{self.name} has more than {self.limit:,} values or more than {MAX_DEPTH} levels of nesting: "
                "save the model again."
            )
        if isinstance(value, dict):
            return {self.text(key): self.copy(item, depth + 1) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.copy(item, depth + 1) for item in value]
        if isinstance(value, str):
            return self.text(value)
        if value is None or type(value) in (bool, float) or (type(value) is int and abs(value) < 1 << 63):
            return value
        raise WeightsError(
            f"{self.name} contains a {type(value).__name__}; only plain values are allowed: save the model again."
        )

    def text(self, value: Any) -> str:
        if not is_text(value):
            raise WeightsError(f"{self.name} contains an invalid key or text: save the model again.")
        return value


def mapping_of(checks: Mapping[str, Callable[[Any], bool]]) -> Callable[[Any], bool]:
    """Returns a predicate for dicts with exactly these keys and values that pass the checks."""
    return lambda value: (
        isinstance(value, dict)
        and value.keys() == checks.keys()
        and all(check(value[k]) for k, check in checks.items())
    )


def is_text(value: Any) -> bool:
    """Whether a value is a string of bounded length without lone surrogates, which cannot be printed."""
    return type(value) is str and len(value) <= MAX_TEXT and not any("\ud800" <= c <= "\udfff" for c in value)


def refuse_absurd_counts(experiment: dict, origin: str) -> None:
    """Refuses numbers of layers or channels that would exhaust memory; a proposer is a nested experiment."""
    model = experiment.get("model")
    if isinstance(model, dict):
        check_counts(f"{origin}: experiment.model", {k: v for k, v in model.items() if k != "proposer"})
        if isinstance(model.get("proposer"), dict):
            refuse_absurd_counts(model["proposer"], origin)


def check_counts(path: str, value: Any) -> None:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        check_counts(f"{path}.{key}", item)
    if isinstance(value, list) and len(value) > MAX_ENTRIES:
        raise WeightsError(f"{path} has {len(value):,} entries; a file may have at most {MAX_ENTRIES}.")
    if type(value) is int and abs(value) > MAX_COUNT:
        raise WeightsError(f"{path} is {value}; a file may have at most {MAX_COUNT:,}.")


def class_names(classes: Any, origin: str) -> list[str]:
    if not isinstance(classes, (list, tuple)) or not 0 < len(classes) <= MAX_CLASSES or not all(map(is_text, classes)):
        raise WeightsError(f"{origin}: classes is not a list of names: save the model again.")
    return list(classes)


def category_ids(ids: Any, origin: str) -> list[int]:
    listed = isinstance(ids, (list, tuple)) and len(ids) <= MAX_CLASSES
    if not listed or any(type(number) is not int or abs(number) >= 1 << 63 for number in ids):
        raise WeightsError(f"{origin}: category_ids is not a list of integers: save the model again.")
    if len(set(ids)) != len(ids):
        raise WeightsError(f"{origin}: category_ids contains duplicates: save the model again.")
    return list(ids)


def pixel_statistics(values: Any, origin: str) -> tuple[Tensor, Tensor]:
    """Returns mean and standard deviation, each [3], [3, 1, 1] or [3, H, W]."""
    values = PlainTree(f"{origin}: normalize", MAX_PIXELS).copy(values)
    try:
        mean, std = (torch.tensor(values[key], dtype=torch.float32) for key in ("mean", "std"))
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError):
        raise WeightsError(f"{origin}: normalize has no valid mean and std of pixels: save the model again.") from None
    return checked_statistics(mean, std, origin)


def checked_statistics(mean: Tensor, std: Tensor, origin: str) -> tuple[Tensor, Tensor]:
    for name, values in (("mean", mean), ("std", std)):
        if values.dim() not in (1, 3) or len(values) != 3 or not values.numel() or not values.isfinite().all():
            raise WeightsError(
                f"{origin}: normalize.{name} {list(values.shape)} is not three finite numbers or maps: "
                "save the model again."
            )
    if not (std > 0).all():
        raise WeightsError(f"{origin}: normalize.std is not positive: save the model again.")
    return mean, std
