"""Tests OpenVINO files: detections against the models, metadata, and the rejection of damaged files."""

import ctypes
import gc
import json
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import disks
import numpy as np
import pytest
import torch
from export.small import KEYPOINTS, SHAPE, File, assert_agrees, detector, picture

import resdet
from resdet import hub, timing
from resdet.batch_inference.program import Program
from resdet.commands import export as command
from resdet.commands.export import export
from resdet.commands.predict import predict
from resdet.errors import ConfigError, Error, FileError, WeightsError
from resdet.export import Form, onnx_model, openvino_model
from resdet.export import openvino as openvino_export
from resdet.export.openvino import from_onnx, to_openvino
from resdet.export.quantize import quantize
from resdet.files.atomic import write_bytes
from resdet.weights.save_weights import save

openvino = pytest.importorskip("openvino")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")


def converted(file: File, folder: Path) -> File:
    from_onnx(file.path, folder / "model.xml")
    return File(file.model, folder / "model.xml")


@pytest.fixture(scope="module")
def mask_pair(mask_rcnn, module_folder) -> File:
    return converted(mask_rcnn, module_folder("mask_rcnn"))


@pytest.fixture(scope="module")
def pair(classifier, module_folder) -> File:
    return converted(classifier, module_folder("classifier"))


@pytest.fixture(scope="module")
def found(mask_pair):
    return openvino_model.load(mask_pair.path, "f32")


@pytest.fixture
def copy(pair, tmp_path) -> Path:
    """A copy of the classifier's files, to be damaged."""
    for file in (pair.path, pair.path.with_suffix(".bin")):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path / pair.path.name


def test_mask_rcnn_matches_the_model(mask_pair, found):
    assert_agrees(mask_pair.model, found)


def test_max_pooling_and_masks_pasted_in_the_graph_match_the_model(pasting, tmp_path):
    assert_agrees(pasting.model, openvino_model.load(converted(pasting, tmp_path).path, "f32"))


def test_coordinates_of_rois_stay_in_float32(mask_pair):
    """Checks which operations of the file are marked: those that compute proposals, and no layer."""
    graph = openvino_model.core().read_model(mask_pair.path)
    marked = {node.friendly_name: node.get_type_name() for node in graph.get_ops() if is_marked(node)}
    assert {*marked} == openvino_export.coordinate_operations(graph)
    assert {"TopK", "NonMaxSuppression", "Exp", "Multiply"} <= {*marked.values()}
    assert not {"Convolution", "MatMul", "Relu", "ROIAlign", "Result"} & {*marked.values()}


def is_marked(node: "openvino.Node") -> bool:
    return any(key.startswith(("precise", "DisablePrecisionConversion")) for key in node.get_rt_info())


@pytest.mark.slow
@pytest.mark.parametrize(
    "family, masks, overrides, form",
    [
        ("fpn", False, [KEYPOINTS], Form(SHAPE)),
        ("cascade", False, [], Form(SHAPE, nms="outside", dynamic_batch=True)),
        ("dc5", True, [], Form(SHAPE, dynamic_batch=True)),
        ("mnc", True, [], Form(SHAPE)),
    ],
)
def test_detectors_of_each_family_match_the_model(family, masks, overrides, form, tmp_path):
    model = detector(family, masks, *overrides)
    to_openvino(model, tmp_path / "model.xml", form)
    for count in (1, 3):
        assert_agrees(model, openvino_model.load(tmp_path / "model.xml", "f32"), count)


def test_a_classifier_takes_any_number_of_images(pair):
    images = torch.randint(256, (5, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = openvino_model.load(pair.path, "f32")
    for count in (1, 5):
        with torch.inference_mode():
            expected = pair.model(images[:count])
        assert torch.allclose(found(images[:count]), expected, atol=1e-5)


def test_the_score_threshold_is_an_input(mask_pair, found):
    image = picture(*SHAPE)
    for score in (0.1, 0.3, 0.9999):
        (ours,), (expected,) = found.predict([image], score), mask_pair.model.predict([image], score)
        assert len(ours) == len(expected)


def test_metadata_equals_that_of_the_onnx_file(mask_rcnn, mask_pair, found):
    assert found.description == onnx_model.load(mask_rcnn.path).description
    graph = openvino_model.core().read_model(mask_pair.path)
    told = {key: json.loads(text) for key, text in graph.get_rt_info("resdet").value.items() if key != "sha256"}
    assert told["classes"] == mask_pair.model.classes and told["shape"] == list(SHAPE)
    assert [port.any_name for port in graph.inputs] == ["images", "sizes", "score"]
    types = {
        node.get_output_element_type(0).to_string() for node in graph.get_ops() if node.get_type_name() == "Constant"
    }
    assert "f32" in types and "f16" not in types


def test_the_mode_of_load_sets_the_precision(pair, monkeypatch):
    assert resdet.load(pair.path).runtime.precision == "f32"
    asked = []
    monkeypatch.setattr(hub.openvino_model, "load", lambda path, precision: asked.append(precision))
    for mode in ("exact", "fast"):
        resdet.load(pair.path, mode)
    assert asked == ["f32", None]


def test_an_unknown_precision_is_rejected(pair):
    with pytest.raises(ConfigError, match="precision is 'fp32': give f32, bf16 or f16."):
        openvino_model.load(pair.path, "fp32")


def test_resdet_predict_accepts_openvino_files(pair, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "mine.png"), picture(50, 60))
    predict(Program([str(pair.path)], top=2), [str(tmp_path / "mine.png")])
    (expected,) = pair.model.predict([tmp_path / "mine.png"], 2)
    assert expected.names[0] in capsys.readouterr().out


def test_concurrent_predictions_are_serialized(found):
    """Predicts in several threads: without a lock, OpenVINO mixes up the outputs of concurrent calls."""
    images = [picture(*SHAPE, seed) for seed in range(6)]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda image: found.predict([image])[0], images))
    for ours, alone in zip(together, found.predict(images), strict=True):
        assert np.array_equal(ours.boxes, alone.boxes)


def test_int8_convolutions_run_in_int8(classifier, pair, tmp_path):
    whole = openvino_model.load(pair.path, "f32")
    images = [picture(32, 32, seed) for seed in range(20)]
    quantize(classifier.path, tmp_path / "int8.onnx", map(whole.feed, images))
    from_onnx(tmp_path / "int8.onnx", tmp_path / "int8.xml")
    small = openvino_model.load(tmp_path / "int8.xml", "f32")
    info = [node.get_rt_info() for node in small.runtime.compiled.get_runtime_model().get_ops()]
    types = [entry["runtimePrecision"].astype(str) for entry in info if entry["layerType"].astype(str) == "Convolution"]
    assert sum(kind in ("u8", "i8") for kind in types) > 5
    apart = (whole(whole.prepare(images)).softmax(1) - small(small.prepare(images)).softmax(1)).abs().max()
    assert 0 < apart < 0.05
    sizes = [path.with_suffix(".bin").stat().st_size for path in (tmp_path / "int8.xml", pair.path)]
    assert sizes[0] < 0.3 * sizes[1]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "no xml": (".xml", Path.unlink, "model.xml: no such file; give both files of `resdet export`"),
    "no bin": (".bin", Path.unlink, "model.bin: no such file; give both files of `resdet export`"),
    "half an xml": (".xml", cut, "model.xml is not a valid OpenVINO file .*: export it again"),
    "half a bin": (".bin", cut, "Incorrect weights in bin file!.*: export it again"),
    "an empty xml": (".xml", lambda path: path.write_text(""), "not a valid OpenVINO file"),
    "a text": (".xml", lambda path: path.write_text("nothing"), "not a valid OpenVINO file"),
    "a web page": (".xml", lambda path: path.write_text("<html></html>"), "model.xml"),
    "a wrong bit": (".bin", flip_a_bit, "model.bin is damaged or of another export than model.xml: export it again"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_files(kind, copy):
    suffix, damage, words = DAMAGE[kind]
    damage(copy.with_suffix(suffix))
    with pytest.raises(WeightsError, match=words) as refused:
        resdet.load(copy)
    said = str(refused.value)
    assert said.startswith(str(copy.parent)) and "\n" not in said and "src/" not in said


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads Linux's map of the memory")
def test_signals_are_handled_after_models_are_deleted(pair):
    """Checks the alternate signal stack of Python's handlers, which OpenVINO's CPU plugin replaces."""
    first = openvino_model.load(pair.path)
    second = openvino_model.load(pair.path)
    del first
    del second
    gc.collect()
    received = []
    former = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        assert signal_stack_is_mapped()  # otherwise the next line would kill the process
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, former)
    assert received == [signal.SIGTERM]


def signal_stack_is_mapped() -> bool:
    stack = (ctypes.c_void_p * 3)()  # struct stack_t: address, flags, size
    ctypes.CDLL(None).sigaltstack(None, stack)
    ranges = (line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines())
    return not stack[0] or any(int(start, 16) <= stack[0] < int(end, 16) for start, end in ranges)


def test_a_file_of_another_program_is_rejected(pair, tmp_path):
    graph = openvino_model.core().read_model(pair.path)
    del graph.get_rt_info()["resdet"]
    openvino.save_model(graph, tmp_path / "a.xml")
    with pytest.raises(WeightsError, match="a.xml was not exported by resdet: run it with openvino, or export"):
        resdet.load(tmp_path / "a.xml")


def test_metadata_that_does_not_match_the_graph_is_rejected(copy):
    copy.write_text(copy.read_text().replace('<shape value="[32, 32]"', '<shape value="[64, 64]"'))
    with pytest.raises(WeightsError, match="the metadata does not match the graph"):
        resdet.load(copy)


@pytest.mark.parametrize("full", [".bin", ".xml"])
def test_a_full_disk_keeps_the_old_files(classifier, copy, monkeypatch, full):
    """Limits the size of one of the two files, so that it cannot be written."""
    copy.with_suffix(".bin").write_bytes(b"old")
    former = {path: path.read_bytes() for path in (copy, copy.with_suffix(".bin"))}

    def write(path, content, *check):
        with disks.limited(0 if path.suffix == full else 1 << 30):
            write_bytes(path, content, *check)

    monkeypatch.setattr(openvino_export, "write_bytes", write)
    with pytest.raises(FileError, match=rf"model{full} cannot be written \(File too large\); the old file is kept"):
        from_onnx(classifier.path, copy)
    assert {path: path.read_bytes() for path in copy.parent.iterdir()} == former
    with disks.limited(1000), pytest.raises(FileError, match="cannot be written by OpenVINO .*: free some space"):
        from_onnx(classifier.path, copy)
    assert {path: path.read_bytes() for path in copy.parent.iterdir()} == former


class TestCommand:
    """Tests `resdet export --to openvino`."""

    @pytest.fixture(autouse=True)
    def at_once(self, classifier, monkeypatch):
        """Skips the ONNX export by copying the classifier's file, and reduces the latency to one call per round."""
        taken = classifier.path.read_bytes()
        monkeypatch.setattr(command, "to_onnx", lambda model, path, form, *check: write_bytes(path, taken, *check))
        monkeypatch.setattr(timing, "MIN_SECONDS", 0.0)

    @pytest.fixture
    def checkpoint(self, classifier, tmp_path) -> Path:
        save(classifier.model, tmp_path / "net.safetensors", "safetensors")
        return tmp_path / "net.safetensors"

    def test_float32_and_int8_files_are_checked_and_timed(self, checkpoint, capsys):
        report = checkpoint.with_name("report.json")
        pictures = ["data.train_images=20", "data.val_images=20"]
        settings = {"int8": True, "calibrate": "shapes_resnet20.yaml", "overrides": pictures}
        export(str(checkpoint), "openvino", json_path=str(report), **settings)
        told, said = json.loads(report.read_text()), capsys.readouterr().out
        assert told["latency_ms"].keys() == {"eager", "openvino"} and told["file"].endswith("net.xml")
        assert "openvino agrees with the checkpoint: same top class, scores within" in said
        assert re.search(r"written: \S+net.xml and \S+net.bin ", said)
        assert re.search(r"latency: float32 \d+ ms, int8 \d+ ms", said) and "| top-1 |" in said
        files = {path.name for path in checkpoint.parent.iterdir()}
        assert files == {checkpoint.name, "report.json", "net.xml", "net.bin", "net.int8.xml", "net.int8.bin"}
        default = openvino_model.load(checkpoint.with_name("net.xml")).runtime.precision
        assert {*told} & {"f32", "bf16", "f16"} == {default} - {"f32"}
        assert resdet.load(checkpoint.with_name("net.int8.xml")).size == 32

    def test_files_with_other_predictions_are_not_written(self, checkpoint, classifier):
        classifier_of_others = resdet.load(checkpoint)
        torch.nn.init.normal_(classifier_of_others.backbone.fc.weight)
        save(classifier_of_others, checkpoint, "safetensors")
        with pytest.raises(Error, match="differ from the checkpoint's .*: nothing was written"):
            export(str(checkpoint), "openvino")
        assert [path.name for path in checkpoint.parent.iterdir()] == [checkpoint.name]

    def test_the_error_of_a_lower_default_precision_is_reported(self, checkpoint, monkeypatch, capsys):
        """Simulates a CPU on which OpenVINO computes in bf16 by default."""
        opened = openvino_model.OpenVINORuntime.__init__

        def open_in_bf16(self, graph, precision, device):
            opened(self, graph, precision, device)
            self.precision = precision or "bf16"

        monkeypatch.setattr(openvino_model.OpenVINORuntime, "__init__", open_in_bf16)
        export(str(checkpoint), "openvino", json_path=str(checkpoint.with_name("report.json")))
        said = capsys.readouterr().out
        assert "bf16, the default of OpenVINO on this CPU, against f32 on one image: same top class" in said
        told = json.loads(checkpoint.with_name("report.json").read_text())["bf16"]
        assert told["latency_ms"].keys() == {"f32", "bf16"} and told["difference"].startswith("same top class")

    def test_invalid_output_names_are_rejected(self, checkpoint):
        weights = checkpoint.rename(checkpoint.with_suffix(".bin"))
        before = weights.read_bytes()
        with pytest.raises(ConfigError, match=r"--out is a.onnx: give a name that ends in .xml; the .bin file is"):
            export(str(weights), "openvino", out="a.onnx")
        with pytest.raises(FileError, match=r"net.bin is an input file: give another output file with --out"):
            export(str(weights), "openvino")
        weights.with_name("b.bin").mkdir()
        with pytest.raises(FileError, match="b.bin is a folder"):
            export(str(weights), "openvino", out=str(weights.with_name("b.xml")))
        assert weights.read_bytes() == before
