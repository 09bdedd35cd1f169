"""Validation of the metadata in exported files, and of the graph it describes."""

from collections.abc import Callable, Mapping
from typing import Any

from resdet.config.renames import KEYS
from resdet.detection.config import InputConfig
from resdet.detection.heads.config import KeypointConfig
from resdet.errors import WeightsError
from resdet.export.runtime import Runtime
from resdet.weights import description

MAX_SIDE = 100_000  # pixels
OUTPUTS = {"inside": ["boxes", "scores", "labels", "valid"], "outside": ["boxes", "scores"]}  # by place of NMS

Check = Callable[[Any], bool]


def is_count(value: Any) -> bool:
    return type(value) is int and 0 < value <= description.MAX_COUNT


def is_side(value: Any) -> bool:
    return type(value) is int and 0 < value <= MAX_SIDE


def is_fraction(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1


def one_of(*choices: Any) -> Check:
    return lambda value: value in choices


def is_shape(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(is_side, value))


def is_keypoints(value: Any) -> bool:
    """Whether a value holds distinct keypoint names, and pairs of their indices."""
    lists = description.mapping_of({"names": is_names, "skeleton": lambda pairs: isinstance(pairs, list)})
    if not lists(value):
        return False
    known = range(len(value["names"]))
    return all(
        isinstance(pair, list) and len(pair) == 2 and all(type(end) is int and end in known for end in pair)
        for pair in value["skeleton"]
    )


def is_names(value: Any) -> bool:
    return (
        isinstance(value, list) and bool(value) and all(map(description.is_text, value)) and len({*value}) == len(value)
    )


COMMON: dict[str, Check] = {
    "task": one_of("classification", "detection"),
    "shape": is_shape,
    "batch": lambda value: value is None or is_count(value),
}
OF_TASK: dict[str, dict[str, Check]] = {
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
        "score": is_fraction,
        "nms": one_of("inside", "outside"),
        "suppression": description.mapping_of({"candidates": is_count, "iou": is_fraction, "detections": is_count}),
        "masks": one_of(None, "inside", "outside"),
        "keypoints": lambda value: value is None or is_keypoints(value),
    },
}


def read(metadata: Mapping[str, str], origin: str) -> dict[str, Any]:
    """Decodes and validates the JSON values; raises a WeightsError if a key is missing or invalid."""
    values = description.from_json(metadata, origin, tuple(metadata))
    if isinstance(values.get("input"), dict):
        values["input"] = {KEYS.get(key, key): value for key, value in values["input"].items()}
    values.setdefault("keypoints", None)  # missing in older files without keypoints
    check(values, COMMON, origin)
    check(values, OF_TASK[values["task"]], origin)
    common = description.read({key: values.get(key) for key in description.MODEL_KEYS}, origin)
    if common.experiment is None or common.classes is None:
        raise WeightsError(f"{origin}: the metadata has no experiment or no classes: export it again.")
    if values["task"] == "detection":
        values["input"] = InputConfig(**values["input"])
        if given := values["keypoints"]:
            values["keypoints"] = KeypointConfig(given["names"], [(a, b) for a, b in given["skeleton"]])
    return values | {"experiment": common.experiment, "classes": common.classes}


def check(values: Mapping[str, Any], checks: Mapping[str, Check], origin: str) -> None:
    for key, is_valid in checks.items():
        if key not in values or not is_valid(values[key]):
            raise WeightsError(f"{origin}: the metadata key {key} is missing or invalid: export it again.")


def check_graph(graph: Runtime, values: Mapping[str, Any], origin: str) -> None:
    """Raises a WeightsError unless the inputs and outputs of the graph match the metadata."""
    expected_inputs, expected = ["images"], ["logits"]
    sides = [values["size"]] * 2 if values["task"] == "classification" else values["shape"]
    if values["task"] == "detection":
        expected_inputs += ["sizes"] + ["score"] * (values["nms"] == "inside")
        expected = OUTPUTS[values["nms"]] + ["masks"] * (values["masks"] is not None)
        expected += ["heatmaps"] * (values["keypoints"] is not None)
    same = (
        sides == values["shape"]
        and list(graph.inputs) == expected_inputs
        and list(graph.outputs) == expected
        and graph.inputs["images"][1:] == [3, *values["shape"]]
    )
    if not same or (values["task"] == "classification" and graph.outputs["logits"][-1:] != [len(values["classes"])]):
        raise WeightsError(f"{origin}: the metadata does not match the graph: export it again.")
