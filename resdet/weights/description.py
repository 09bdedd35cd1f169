"""What our own files say beside the tensors, checked: the experiment, the classes, and the statistics of pixels.

A `.pth` or `.pkl` has them as values, a safetensors or ONNX file as JSON. Whoever made the file may have written
anything there, so that types, lengths and sizes are compared before anything is built.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from resdet.errors import WeightsError

KEYS = ("experiment", "classes", "category_ids", "normalize")
MAX_VALUES = 20_000  # of an experiment; ours have two hundred
MAX_PIXELS = 1_000_000  # of a mean of each pixel
MAX_DEPTH = 32
MAX_TEXT = 10_000  # characters
MAX_CLASSES = 1_000_000
MAX_COUNT = 1_000_000  # layers, channels and boxes that a model's config may ask for
MAX_ENTRIES = 256  # of a list there, such as the ratios of anchors


@dataclass
class Description:
    """None for what the file does not say."""

    experiment: dict | None = None
    classes: list[str] | None = None
    category_ids: list[int] | None = None
    statistics: tuple[Tensor, Tensor] | None = None  # mean and deviation


def read(told: Mapping[str, Any], origin: str) -> Description:
    """From values; other keys than ours are passed by, and all of them in the files of other libraries."""
    if not is_ours(told):
        return Description()
    experiment = told.get("experiment")
    classes, ids, statistics = (told.get(key) for key in KEYS[1:])
    found = Description(
        None if experiment is None else settings(experiment, origin),
        None if classes is None else class_names(classes, origin),
        None if ids is None else category_ids(ids, origin),
        None if statistics is None else pixel_statistics(statistics, origin),
    )
    if found.experiment and found.classes is None:
        raise WeightsError(f"{origin} has a config and no classes: export or save the model again.")
    if ids is not None and len(ids) != len(found.classes or ()):
        raise WeightsError(
            f"{origin} has {len(ids)} category_ids and {len(found.classes or ())} classes: it is damaged."
        )
    return found


def is_ours(told: Mapping[str, Any]) -> bool:
    """Whether what stands beside the tensors is of this library: others may call anything an experiment or classes."""
    return any(isinstance(told.get(key), dict) for key in ("experiment", "normalize")) or (
        "classes" in told and "category_ids" in told
    )


def from_json(written: Mapping[str, str], origin: str, keys: Sequence[str]) -> dict[str, Any]:
    """The values of those keys that are there."""
    return {key: parsed(written[key], f"{origin}: the {key} in its metadata") for key in keys if key in written}


def parsed(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise WeightsError(f"{what} is no JSON: the file is damaged; fetch or copy it again.") from None


def settings(experiment: Any, origin: str) -> dict:
    """The experiment as a plain tree of bounded size; its keys and values are the config's to judge."""
    if not isinstance(experiment, dict):
        raise WeightsError(f"{origin}: its experiment is a {type(experiment).__name__} and no mapping: it is damaged.")
    found = Plain(f"{origin}: its experiment", MAX_VALUES).copy(experiment)
    refuse_absurd_counts(found, origin)
    return found


class Plain:
    """Copies a tree of plain values, and refuses one that is too large, too deep or holds itself."""

    def __init__(self, what: str, limit: int):
        self.what, self.limit, self.left = what, limit, limit

    def copy(self, value: Any, depth: int = 0) -> Any:
        self.left -= 1
        if self.left < 0 or depth > MAX_DEPTH:
            raise WeightsError(
                f"{self.what} has more than {self.limit:,} values or is nested more than {MAX_DEPTH} deep."
            )
        if isinstance(value, dict):
            return {self.text(key): self.copy(item, depth + 1) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.copy(item, depth + 1) for item in value]
        if isinstance(value, str):
            return self.text(value)
        if value is None or type(value) in (bool, float) or (type(value) is int and abs(value) < 1 << 63):
            return value
        raise WeightsError(f"{self.what} holds a {type(value).__name__}, which no config has: the file is damaged.")

    def text(self, value: Any) -> str:
        if not is_text(value):
            raise WeightsError(f"{self.what} holds a key or text that is none: the file is damaged.")
        return value


def mapping_of(checks: Mapping[str, Callable[[Any], bool]]) -> Callable[[Any], bool]:
    """A check of a dict with just these keys."""
    return lambda value: (
        isinstance(value, dict)
        and value.keys() == checks.keys()
        and all(check(value[k]) for k, check in checks.items())
    )


def is_text(value: Any) -> bool:
    """Of bounded length, and without the lone surrogates that cannot be printed."""
    return type(value) is str and len(value) <= MAX_TEXT and not any("\ud800" <= c <= "\udfff" for c in value)


def refuse_absurd_counts(experiment: dict, origin: str) -> None:
    """Counts of layers and channels that would take all memory before a layer is built; a proposer has a model, too."""
    model = experiment.get("model")
    if isinstance(model, dict):
        walk(f"{origin}: its experiment asks for model", {k: v for k, v in model.items() if k != "proposer"})
        if isinstance(model.get("proposer"), dict):
            refuse_absurd_counts(model["proposer"], origin)


def walk(path: str, value: Any) -> None:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        walk(f"{path}.{key}", item)
    if isinstance(value, list) and len(value) > MAX_ENTRIES:
        raise WeightsError(f"{path} with {len(value):,} entries, and at most {MAX_ENTRIES} are taken from a file.")
    if type(value) is int and abs(value) > MAX_COUNT:
        raise WeightsError(f"{path}={value}, and at most {MAX_COUNT:,} is taken from a file.")


def class_names(classes: Any, origin: str) -> list[str]:
    if not isinstance(classes, (list, tuple)) or not 0 < len(classes) <= MAX_CLASSES or not all(map(is_text, classes)):
        raise WeightsError(f"{origin}: its classes are no list of names: the file is damaged; fetch or copy it again.")
    return list(classes)


def category_ids(ids: Any, origin: str) -> list[int]:
    listed = isinstance(ids, (list, tuple)) and len(ids) <= MAX_CLASSES
    if not listed or any(type(number) is not int or abs(number) >= 1 << 63 for number in ids):
        raise WeightsError(f"{origin}: its category_ids are no list of integers: the file is damaged.")
    if len(set(ids)) != len(ids):
        raise WeightsError(f"{origin}: its category_ids hold an id twice: the file is damaged.")
    return list(ids)


def pixel_statistics(told: Any, origin: str) -> tuple[Tensor, Tensor]:
    """Mean and deviation, [3], [3, 1, 1] or [3, H, W]."""
    told = Plain(f"{origin}: its normalize", MAX_PIXELS).copy(told)
    try:
        found = torch.tensor(told["mean"], dtype=torch.float32), torch.tensor(told["std"], dtype=torch.float32)
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError):
        raise WeightsError(f"{origin}: its normalize holds no mean and std of pixels: the file is damaged.") from None
    return checked_statistics(*found, origin)


def checked_statistics(mean: Tensor, std: Tensor, origin: str) -> tuple[Tensor, Tensor]:
    for name, values in (("mean", mean), ("std", std)):
        if values.dim() not in (1, 3) or len(values) != 3 or not values.numel() or not values.isfinite().all():
            raise WeightsError(
                f"{origin}: its {name} of pixels {list(values.shape)} is not three finite numbers or maps."
            )
    if not (std > 0).all():
        raise WeightsError(f"{origin}: its deviation of pixels is not above zero: the file is damaged.")
    return mean, std
