"""Tests int8 quantization: the quantized layers, the resulting file, and the loss of accuracy."""

import json
import warnings
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from export.small import picture
from tasks import runs

from resdet.commands.evaluate import evaluate
from resdet.data.shapes import ShapeImages
from resdet.errors import ConfigError, DataError
from resdet.export import onnx_model, verify
from resdet.export.calibration import COUNT, CalibrationData
from resdet.export.detection import difference_of_results
from resdet.export.exporters import exporters
from resdet.export.quantize import LAST, quantize, quiet
from resdet.results.result import Result

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def int8(mask_rcnn, module_folder):
    path = module_folder("int8") / "model.int8.onnx"
    whole = onnx_model.load(mask_rcnn.path)
    quantize(mask_rcnn.path, path, (whole.feed(picture(64, 96, seed)) for seed in range(3)))
    return path


def test_nothing_is_written_next_to_the_source(mask_rcnn, tmp_path, monkeypatch):
    """Lets several processes quantize one file, also in a read-only folder."""
    written = []
    infer = onnx.shape_inference.infer_shapes_path
    monkeypatch.setattr(
        onnx.shape_inference,
        "infer_shapes_path",
        lambda source, target: [written.append(Path(target)), infer(source, target)],
    )
    feeds = (onnx_model.load(mask_rcnn.path).feed(picture(64, 96, seed)) for seed in range(1))
    quantize(mask_rcnn.path, tmp_path / "int8.onnx", feeds)
    assert written and Path(mask_rcnn.path).parent not in {path.parent for path in written}


def test_infinite_ranges_do_not_warn():
    """The levels of RoIs without area have infinite ranges."""
    from onnxruntime.quantization.quant_utils import compute_scale_zp

    ranges = (np.array(value, np.float32) for value in (-np.inf, 1))
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("error")
        compute_scale_zp(*ranges, np.array(0, np.uint8), np.array(255, np.uint8))


def weights_of(path) -> dict[str, str]:
    """Returns the data types of the layers' weights by name."""
    file = onnx.load(path)
    types = {tensor.name: onnx.TensorProto.DataType.Name(tensor.data_type) for tensor in file.graph.initializer}
    return {name: kind for name, kind in types.items() if "model." in name and "weight" in name and "scale" not in name}


def test_all_layers_except_the_last_are_int8(mask_rcnn, int8):
    kinds = weights_of(int8)
    layers = [name for name in weights_of(mask_rcnn.path) if "upsample" not in name]
    for layer in layers:
        whole = any(f"{last}.weight" in layer for last in LAST)
        kept = [kind for name, kind in kinds.items() if name.startswith(layer) and "zero_point" not in name]
        assert kept == ["FLOAT" if whole else "INT8"], layer
    assert len(layers) > 20
    scales = {t.name: t.dims for t in onnx.load(int8).graph.initializer if "conv1.conv.weight_scale" in t.name}
    assert scales and all(len(dims) == 1 and dims[0] > 1 for dims in scales.values())  # one per channel


def test_postprocessing_is_not_quantized(mask_rcnn, int8):
    """Compares the counts of operations of box decoding, NMS and pooling before and after quantization."""
    counts = [Counter(node.op_type for node in onnx.load(path).graph.node) for path in (mask_rcnn.path, int8)]
    for kind in ("NonMaxSuppression", "RoiAlign", "TopK", "Exp", "Div", "Sigmoid", "ConvTranspose"):
        assert counts[0][kind] == counts[1][kind] > 0, kind
    assert counts[1]["QuantizeLinear"] > 25


def test_an_int8_detector_has_the_same_description(mask_rcnn, int8):
    whole, small = onnx_model.load(mask_rcnn.path), onnx_model.load(int8)
    assert small.description == whole.description and int8.stat().st_size < 0.3 * mask_rcnn.path.stat().st_size
    (result,) = small.predict([picture(80, 90)], 0.0)
    assert len(result) and result.masks.shape[1:] == (80, 90)


def test_probabilities_of_an_int8_classifier_are_close(classifier, tmp_path):
    whole = onnx_model.load(classifier.path)
    images = [picture(32, 32, seed) for seed in range(20)]
    quantize(classifier.path, tmp_path / "int8.onnx", map(whole.feed, images))
    small = onnx_model.load(tmp_path / "int8.onnx")
    pixels = whole.prepare(images)
    apart = (whole(pixels).softmax(1) - small(pixels).softmax(1)).abs().max()
    assert 0 < apart < 0.05


def test_missing_calibration_images_are_reported(classifier, tmp_path):
    with pytest.raises(DataError, match="no calibration images"):
        quantize(classifier.path, tmp_path / "int8.onnx", [])
    assert not list(tmp_path.iterdir())


def test_calibration_images_of_a_folder_and_of_a_config(tmp_path, mask_rcnn):
    png = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()
    for number in range(COUNT + 6):
        (tmp_path / f"{number:03}.png").write_bytes(png)
    (tmp_path / "notes.txt").write_text("no image")
    named = [path.name for path in CalibrationData(str(tmp_path)).images()]
    assert len(named) == COUNT and named[0] == "000.png" and named[-1] == "069.png" and named == sorted(set(named))

    config = CalibrationData("shapes_resnet20.yaml", ["data.train_images=10"])
    shown = list(config.images())
    assert len(shown) == 10 and shown[0].shape == (32, 32, 3) and shown[0].dtype == np.uint8
    with pytest.raises(ConfigError, match="task classification, but the model's task is detection"):
        config.check(mask_rcnn.model)


def test_calibration_follows_the_config_on_unreadable_images(tmp_path):
    png = cv2.imencode(".png", np.zeros((30, 30, 3), np.uint8))[1].tobytes()
    for split in ("train", "val"):
        (tmp_path / split / "cat").mkdir(parents=True)
        for name, content in {"a": png, "b": png[:-20], "c": png}.items():
            (tmp_path / split / "cat" / f"{name}.png").write_bytes(content)
    places = [f"data.root={tmp_path}", "data.on_bad_image=skip"]
    assert len(list(CalibrationData("folder.yaml", places).images())) == 2
    with pytest.raises(DataError, match="b.png is truncated: delete it or set data.on_bad_image=skip"):
        list(CalibrationData("folder.yaml", [places[0], "data.on_bad_image=error"]).images())


def test_accuracy_of_an_exported_classifier(classifier):
    """Compares the top-1 accuracy with one computed from `predict`."""
    experiment = CalibrationData("shapes_resnet20.yaml", ["data.val_images=40"]).experiment
    images = ShapeImages(40, 32, experiment.data.seed, "val")
    model = onnx_model.load(classifier.path)
    found = model.predict(list(images.pixels().transpose(0, 2, 3, 1)))
    hits = [result.labels[0] == label for result, label in zip(found, images.labels)]
    assert exporters[model.task].metrics(model, experiment)["top-1"] == pytest.approx(np.mean(hits))
    metrics = evaluate([str(classifier.path)], experiment)
    assert metrics["error"] == pytest.approx(1 - np.mean(hits))
    with pytest.raises(ConfigError, match="is an exported file, which torch.compile cannot compile"):
        evaluate([str(classifier.path)], experiment, mode="fast", compile=True)
    experiment.eval.views = "dense"
    with pytest.raises(ConfigError, match="model.onnx is an exported file, of one image size: set eval.views="):
        evaluate([str(classifier.path)], experiment)
    experiment.eval.views = "center"
    model.classes = model.classes[1:]
    with pytest.raises(ConfigError, match="The model has 9 classes but the data has 10"):
        exporters[model.task].check_data(model, experiment)


def coco_of(folder, model) -> tuple[dict, list[dict]]:
    """Writes noise images; returns every other detection of the model as ground truth, and all its detections."""
    truth = {"images": [], "annotations": [], "categories": []}
    truth["categories"] = [{"id": id, "name": name} for id, name in zip(model.category_ids, model.classes)]
    found = []
    for number in (1, 2, 3):
        path = folder / f"{number}.png"
        cv2.imwrite(str(path), picture(64, 96, number))
        truth["images"].append({"id": number, "file_name": path.name, "height": 64, "width": 96})
        entries = model.predict([path])[0].to_coco(number)
        found += entries
        for entry in entries[::2]:
            extra = {"id": len(truth["annotations"]) + 1, "area": entry["bbox"][2] * entry["bbox"][3], "iscrowd": 0}
            truth["annotations"].append(entry | extra)
    return truth, found


def test_ap_of_an_exported_detector(mask_rcnn, tmp_path):
    """Compares with pycocotools' AP of the checkpoint's detections, on images of the exported shape."""
    truth, found = coco_of(tmp_path, mask_rcnn.model)
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "found.json").write_text(json.dumps(found))
    places = [f"data.{split}.{key}" for split in ("train", "val") for key in ("images=.", "annotations=truth.json")]
    experiment = CalibrationData("custom.yaml", [f"data.root={tmp_path}", *places]).experiment
    model = onnx_model.load(mask_rcnn.path)
    figures, metrics = exporters[model.task].metrics(model, experiment), evaluate([str(mask_rcnn.path)], experiment)
    for kind, prefix in (("bbox", ""), ("segm", "mask_")):
        expected = runs.pycocotools_figures(truth, tmp_path / "found.json", kind)
        assert expected["AP"] > 0.1 and figures[f"{prefix}AP"] == pytest.approx(expected["AP"], abs=0.02)
        assert metrics[kind]["AP"] == pytest.approx(figures[f"{prefix}AP"])
    for keys in (["eval.flip=true"], ["eval.refine=true"]):
        improved = CalibrationData("custom.yaml", [f"data.root={tmp_path}", *places, *keys]).experiment
        with pytest.raises(ConfigError, match="is an exported file, which supports neither ensembles nor TTA"):
            evaluate([str(mask_rcnn.path)], improved)
    for category in truth["categories"]:
        category["name"] += " of another model"
        category["id"] += 10
    for entry in truth["annotations"]:
        entry["category_id"] += 10
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    with pytest.raises(ConfigError, match="The model has no class disc of another model and no category id 11"):
        CalibrationData("custom.yaml", [f"data.root={tmp_path}", *places]).check(mask_rcnn.model)


def result(boxes, scores, labels) -> Result:
    boxes, labels = np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64)
    names = [str(label) for label in labels]
    return Result(boxes, np.array(scores, np.float32), labels, names, labels, (100, 100))


def test_the_text_of_the_difference_of_results():
    """The first detection moves by two pixels, the second changes its class, the third vanishes."""
    before = result([[0, 0, 40, 40], [50, 50, 90, 90], [0, 60, 20, 80]], [0.9, 0.8, 0.3], [1, 2, 1])
    after = result([[50, 50, 90, 90], [0, 0, 42, 40]], [0.85, 0.7], [1, 1])
    assert difference_of_results(before, after) == (
        "1 of 3 detections match, boxes within 2.0 pixels, scores within 0.200"
    )
    assert difference_of_results(before, result([], [], [])) == "0 of 3 detections match"
    nothing = difference_of_results(result([], [], []), result([], [], []))
    assert nothing == "no detections to compare (the other has 0): name an image with objects by --image"


def test_the_table_of_int8_accuracy_loss():
    table = verify.cost_table({"AP": 0.5, "AP50": 0.75}, {"AP": 0.4875, "AP50": 0.76})
    assert table.splitlines()[2:] == ["| AP | 0.5000 | 0.4875 | 0.0125 |", "| AP50 | 0.7500 | 0.7600 | -0.0100 |"]
