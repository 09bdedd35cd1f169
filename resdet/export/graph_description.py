"""What an ONNX file of ours says of itself in its metadata, checked against the graph that it describes."""

from collections.abc import Callable, Mapping
from typing import Any

from resdet.config.renames import KEYS
from resdet.detection.config import InputConfig
from resdet.errors import WeightsError
from resdet.weights import description

MAX_SIDE = 100_000  # pixels
OUTPUTS = {"inside": ["boxes", "scores", "labels", "valid"], "outside": ["boxes", "scores"]}  # by place of suppression

Check = Callable[[Any], bool]


def is_count(value: Any) -> bool:
    return type(value) is int and 0 < value <= description.MAX_COUNT


def is_side(value: Any) -> bool:
    return type(value) is int and 0 < value <= MAX_SIDE


def is_share(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1


def one_of(*choices: Any) -> Check:
    return lambda value: value in choices if isinstance(value, (str, type(None))) else False


def is_shape(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(is_side, value))


COMMON = {
    "task": one_of("classification", "detection"),
    "shape": is_shape,
    "batch": lambda value: value is None or is_count(value),
}
OF_TASK = {
    "classification": {"size": is_side, "short": is_side},
    "detection": {
        "category_ids": lambda value: isinstance(value, list),
        "input": description.mapping_of(
            {
                "min_size": is_side,
                "max_size": is_side,
                "resize": one_of("opencv", "pillow", "torchvision"),
                "divisor": is_side,
            }
        ),
        "score": is_share,
        "nms": one_of("inside", "outside"),
        "suppression": description.mapping_of({"candidates": is_count, "iou": is_share, "detections": is_count}),
        "masks": one_of(None, "inside", "outside"),
    },
}


def read(written: Mapping[str, str], origin: str) -> dict[str, Any]:
    """The values, from texts in JSON."""
    told = description.from_json(written, origin, tuple(written))
    if isinstance(told.get("input"), dict):
        told["input"] = {KEYS.get(key, key): value for key, value in told["input"].items()}
    check(told, COMMON, origin)
    check(told, OF_TASK[told["task"]], origin)
    found = description.read({key: told.get(key) for key in description.KEYS[:3]}, origin)
    if found.experiment is None or found.classes is None:
        raise WeightsError(f"{origin}: its metadata has no experiment or no classes: export it again.")
    if told["task"] == "detection":
        told["input"] = InputConfig(**told["input"])
    return told | {"experiment": found.experiment, "classes": found.classes}


def check(told: Mapping[str, Any], checks: Mapping[str, Check], origin: str) -> None:
    for key, holds in checks.items():
        if key not in told or not holds(told[key]):
            raise WeightsError(f"{origin}: the {key} in its metadata is missing or impossible: export it again.")


def check_graph(session: Any, told: Mapping[str, Any], origin: str) -> None:
    """That inputs and outputs are those of the metadata."""
    inputs, outputs = (
        {value.name: value.shape for value in values()} for values in (session.get_inputs, session.get_outputs)
    )
    expected = ["logits"]
    if told["task"] == "detection":
        expected = OUTPUTS[told["nms"]] + ["masks"] * (told["masks"] is not None)
    wanted = ["images"] + ["sizes"] * (told["task"] == "detection")
    sides = {told["size"]} if told["task"] == "classification" else set(told["shape"])
    same = (
        sides == set(told["shape"])
        and list(inputs) == wanted
        and list(outputs) == expected
        and inputs["images"][1:] == [3, *told["shape"]]
    )
    if not same or (told["task"] == "classification" and outputs["logits"][-1:] != [len(told["classes"])]):
        raise WeightsError(f"{origin}: its metadata is of another graph than the one it holds: export it again.")
