"""Tests that the metadata of ONNX files is validated (types, lengths, consistency with the graph) before inference."""

import json
from pathlib import Path

import numpy as np
import pytest

import resdet
from resdet.errors import Error, WeightsError
from resdet.export import onnx_model

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

CLASSIFIER = {
    "task": "classification",
    "classes": ["a", "b"],
    "shape": [4, 4],
    "batch": 1,
    "size": 4,
    "short": 5,
    "experiment": {"task": "classification"},
}
DETECTOR = {
    **{"task": "detection", "classes": ["a", "b"], "shape": [32, 64], "batch": 1, "category_ids": [3, 7]},
    **{"experiment": {"task": "detection"}, "score": 0.05, "nms": "inside", "masks": None},
    "input": {"short": 32, "long": 64, "resize": "opencv", "divisor": 32},
    "suppression": {"candidates": 10, "iou": 0.5, "detections": 5},
}


def graph(
    shape: list, outputs: list[str], inputs: tuple = ("images",), extra: tuple = (), initial: tuple = ()
) -> bytes:
    """Returns a model whose outputs are the mean of the images."""
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, *shape])]
    values += [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in inputs[1:]]
    nodes = [helper.make_node("ReduceMean", ["images"], [name], keepdims=0) for name in outputs[1:]]
    nodes.append(helper.make_node("Reshape", ["pair", "as"], [outputs[0]]))
    nodes.append(helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0))
    nodes.append(helper.make_node("Expand", ["mean", "two"], ["pair"]))
    numbers = [
        helper.make_tensor("two", TensorProto.INT64, [1], [2]),
        helper.make_tensor("as", TensorProto.INT64, [2], [1, 2]),
    ]
    found = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2] if name == outputs[0] else None)
        for name in outputs
    ]
    ordered = [nodes[-2], nodes[-1], nodes[-3], *nodes[:-3], *extra]
    made = helper.make_graph(ordered, "graph", values, found, [*numbers, *initial])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def write(folder: Path, told: dict, model=None) -> Path:
    path = folder / "file.onnx"
    model = model or graph([4, 4], ["logits"])
    for key, value in told.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = f"resdet.{key}", value if isinstance(value, bytes) else json.dumps(value)
    onnx.save(model, path)
    return path


OUTPUTS = ("boxes", "scores", "labels", "valid")


def detector(outputs=OUTPUTS):
    return graph([32, 64], list(outputs), ("images", "sizes", "score"))


def assert_refused(path: Path, *words: str) -> None:
    with pytest.raises(WeightsError) as caught:
        resdet.load(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and all(word in message for word in words), message


def test_valid_files_are_loaded(tmp_path):
    assert resdet.load(write(tmp_path, CLASSIFIER)).classes == ["a", "b"]
    found = resdet.load(write(tmp_path, DETECTOR, detector()))
    assert found.category_ids == [3, 7] and found.input.max_size == 64 and not found.draws_keypoints
    told = {**DETECTOR, "keypoints": {"names": ["left", "right"], "skeleton": [[0, 1]]}}
    found = resdet.load(write(tmp_path, told, detector((*OUTPUTS, "heatmaps"))))
    assert found.keypoints.keypoint_names == ["left", "right"] and found.keypoints.limbs == [(0, 1)]


ODD = {
    "task": [3, "localization", None, ["detection"]],
    "classes": [7, [], [1, 2], "ab"],
    "shape": [4, [4], [4, -4], [4, 4.0], [4, 10**9]],
    "batch": [0, -1, "1", True],
    "size": [0, "4", 10**9],
    "experiment": [3, [], "a"],
}
ODD_OF_DETECTORS = {
    "category_ids": [3, [1], [1, 1], ["a", "b"]],
    "input": [{}, {"short": "32", "long": 64, "resize": "opencv", "divisor": 32}, {**DETECTOR["input"], "resize": []}],
    "score": ["0", 7, None],
    "nms": [None, "beside"],
    "suppression": [{}, {"candidates": 10, "iou": 0.5, "detections": 0}],
    "masks": ["beside", 3],
    "keypoints": [
        3,
        {"names": ["a", "b"]},
        *({"names": names, "skeleton": []} for names in ([], ["a", "a"], ["a", 3], "ab")),
        *({"names": ["a", "b"], "skeleton": pairs} for pairs in (3, [[0]], [[0, 2]], [[-1, 0]], [[0, True]])),
    ],
}


@pytest.mark.parametrize("key, value", [(key, value) for key, values in ODD.items() for value in values])
def test_invalid_metadata_of_classifiers_is_rejected(tmp_path, key, value):
    assert_refused(write(tmp_path, CLASSIFIER | {key: value}))
    assert_refused(write(tmp_path, {k: v for k, v in CLASSIFIER.items() if k != key}))


@pytest.mark.parametrize("key, value", [(key, value) for key, values in ODD_OF_DETECTORS.items() for value in values])
def test_invalid_metadata_of_detectors_is_rejected(tmp_path, key, value):
    assert_refused(write(tmp_path, DETECTOR | {key: value}, detector()))


@pytest.mark.parametrize(
    "text", [b"", b"[" * 100_000, b"1" * 5000, b"{'a': 1}"], ids=["empty", "deep", "long", "quotes"]
)
def test_metadata_that_is_not_json_is_rejected(tmp_path, text):
    assert_refused(write(tmp_path, CLASSIFIER | {"classes": text}), "the metadata key classes is not valid JSON")


@pytest.mark.parametrize(
    "told, model",
    [
        (CLASSIFIER, lambda: graph([8, 8], ["logits"])),
        (CLASSIFIER, lambda: graph([4, 4], ["scores"])),
        (CLASSIFIER | {"classes": ["a", "b", "c"]}, lambda: graph([4, 4], ["logits"])),
        (CLASSIFIER | {"size": 8}, lambda: graph([4, 4], ["logits"])),
        (DETECTOR, lambda: graph([4, 4], ["logits"])),
        (DETECTOR | {"masks": "outside"}, detector),
        (DETECTOR | {"nms": "outside"}, detector),
    ],
)
def test_metadata_that_does_not_match_the_graph_is_rejected(tmp_path, told, model):
    assert_refused(write(tmp_path, told, model()), "does not match the graph")


@pytest.mark.parametrize("data", [b"", b"\x08", b"garbage" * 9, bytes(100)])
def test_files_that_are_not_onnx_are_rejected(tmp_path, data):
    (tmp_path / "file.onnx").write_bytes(data)
    assert_refused(tmp_path / "file.onnx")


def test_names_that_are_not_utf8_are_rejected(tmp_path):
    whole = write(tmp_path, CLASSIFIER).read_bytes()
    for name in (b"logits", b"resdet.task", b"images"):
        (tmp_path / "file.onnx").write_bytes(whole.replace(name, b"\xfe" * len(name)))
        assert_refused(tmp_path / "file.onnx")


def test_truncated_files_are_rejected(tmp_path):
    whole = write(tmp_path, CLASSIFIER).read_bytes()
    for length in range(0, len(whole), 29):
        (tmp_path / "file.onnx").write_bytes(whole[:length])
        assert_refused(tmp_path / "file.onnx")


def test_weights_outside_the_folder_are_not_read(tmp_path):
    from onnx import TensorProto

    (tmp_path / "secret").write_bytes(bytes(64))
    (tmp_path / "inner").mkdir()
    model = graph([4, 4], ["logits"])
    outside = model.graph.initializer.add()
    outside.name, outside.data_type, outside.data_location = "outside", TensorProto.FLOAT, TensorProto.EXTERNAL
    outside.dims.append(16)
    place = outside.external_data.add()
    place.key, place.value = "location", "../secret"
    model.graph.node.append(onnx.helper.make_node("Relu", ["outside"], ["unused"]))
    assert_refused(write(tmp_path / "inner", CLASSIFIER, model), "is not a valid ONNX file")


def test_constant_folding_is_limited(tmp_path, monkeypatch):
    """Checks that onnxruntime is configured not to fold large constants, which could expand to gigabytes."""
    asked = []
    import onnxruntime

    original = onnxruntime.SessionOptions.add_session_config_entry
    monkeypatch.setattr(
        onnxruntime.SessionOptions,
        "add_session_config_entry",
        lambda self, *entry: asked.append(entry) or original(self, *entry),
    )
    resdet.load(write(tmp_path, CLASSIFIER))
    assert asked == [onnx_model.LARGEST_CONSTANT]


def test_a_failing_graph_raises_a_user_error(tmp_path, monkeypatch):
    found = resdet.load(write(tmp_path, CLASSIFIER))
    found.outputs = ["nothing"]
    with pytest.raises(Error, match="cannot be run"):
        found.predict([np.zeros((8, 8, 3), np.uint8)])
