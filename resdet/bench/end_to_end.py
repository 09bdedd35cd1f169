"""From a folder of JPEGs to a results file, including loading of weights, decoding and writing.

Runs Faster and Mask R-CNN at the usual size (short side 800, long side up to 1333), and a ResNet on 224×224 center
crops; all libraries have the same weights.
"""

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from resdet import hub
from resdet.bench.detection import CLASSES, torchvision_detector, twins
from resdet.bench.nets import NOT_INSTALLED, missing
from resdet.detection.model import Detector
from resdet.export.onnx import PACKAGES, to_onnx
from resdet.export.openvino import to_openvino
from resdet.fast import accelerate
from resdet.files.atomic import write_json, write_torch
from resdet.images.encode import write_image
from resdet.images.photographs import photograph
from resdet.model import Model
from resdet.results.classification import Classification
from resdet.results.result import Result
from resdet.system import keep_freed_memory
from resdet.timing import Case, Side

IMAGES = 200
SIZES = ((480, 640), (427, 640), (640, 480))  # heights and widths, in turn
SHORT, LONG = 800, 1333
TOP = 5  # classes per image

Entry = dict[str, Any]  # entry of a results file


def cases(images: int = IMAGES, short: int = SHORT, long: int = LONG, body: str = "resnet50") -> Iterator[Case]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        paths = write_photographs(folder, images)
        for masks in (False, True):
            peer, _ = twins(masks, short, long, body)
            weights = folder / f"{'mask' if masks else 'faster'}.pth"
            write_torch(weights, peer.state_dict())
            open_peer = partial(load_peer, weights, masks, short, long, body)
            open_ours = partial(load_ours, weights, short, long)
            title = f"{'Mask' if masks else 'Faster'} R-CNN, {{}}".format
            sides = runtimes(open_ours, lambda: with_torchvision(open_peer(), paths), folder, paths)
            yield Case(title("folder to results file"), images, sides, warm=False)
            sides = {f"resdet {mode}": partial(first_result, weights, paths[0], mode) for mode in ("exact", "fast")}
            yield Case(title("a new process to its first result"), 1, sides, unit="s", warm=False)
        yield classification(folder, paths, body)


def runtimes(
    open_ours: Callable[[], Any], with_peer: Callable[[], Iterable[Entry]], folder: Path, paths: Sequence[Path]
) -> dict[str, Side]:
    return {
        "torchvision": lambda: write(with_peer(), folder),
        "resdet exact": lambda: write(with_resdet(open_ours(), paths), folder),
        "resdet fast": lambda: write(with_resdet(accelerate(open_ours()), paths), folder),
        "onnxruntime": with_onnxruntime(open_ours(), folder, paths),
        "OpenVINO": with_openvino(open_ours(), folder, paths),
    }


def classification(folder: Path, paths: Sequence[Path], body: str) -> Case:
    from torchvision.models import get_model

    weights = folder / "classifier.pth"
    torch.manual_seed(0)
    write_torch(weights, get_model(body, weights=None).state_dict())
    with_peer = lambda: with_torchvision_classifier(weights, body, paths)
    sides = runtimes(lambda: hub.load(weights), with_peer, folder, paths)
    return Case(f"{body}, folder to results file", len(paths), sides, warm=False)


def write_photographs(folder: Path, count: int) -> list[Path]:
    paths = [folder / f"{number:04}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        height, width = SIZES[number % len(SIZES)]
        write_image(path, cv2.resize(photograph(np.random.default_rng(number)), (width, height)))
    return paths


def write(entries: Iterable[Entry], folder: Path) -> None:
    write_json(str(folder / "results.json"), [*entries])


def load_peer(weights: Path, masks: bool, short: int, long: int, body: str) -> nn.Module:
    peer = torchvision_detector(masks, short, long, body)
    peer.load_state_dict(torch.load(weights, weights_only=True))
    return peer


def load_ours(weights: Path, short: int, long: int) -> Detector:
    model = hub.load(weights, expect=Detector)
    model.input.min_size, model.input.max_size = short, long
    return model


@torch.inference_mode()
def with_torchvision(peer: nn.Module, paths: Sequence[Path]) -> Iterator[Entry]:
    """Predicts with the loop of torchvision's documentation; pycocotools encodes the masks."""
    from torchvision.io import decode_image

    for number, path in enumerate(paths):
        image = decode_image(str(path), mode="RGB") / 255
        output = peer([image])[0]
        labels = output["labels"].numpy() - 1
        masks = (output["masks"][:, 0] > 0.5).numpy() if "masks" in output else None
        size = (image.shape[1], image.shape[2])
        result = Result.of(output["boxes"].numpy(), output["scores"].numpy(), labels, [""] * CLASSES, size)
        yield from with_segments(result.to_coco(number), masks)


@torch.inference_mode()
def with_torchvision_classifier(weights: Path, body: str, paths: Sequence[Path]) -> Iterator[Entry]:
    """Predicts with the loop of torchvision's documentation."""
    from torchvision.io import decode_image
    from torchvision.models import get_model, get_model_weights

    peer = get_model(body, weights=None).eval()
    peer.load_state_dict(torch.load(weights, weights_only=True))
    preprocess = get_model_weights(body)["IMAGENET1K_V1"].transforms()
    for number, path in enumerate(paths):
        scores = peer(preprocess(decode_image(str(path), mode="RGB"))[None])[0].softmax(0)
        best = scores.topk(TOP)
        yield {"image_id": number, "labels": best.indices.tolist(), "scores": best.values.tolist()}


def with_segments(entries: list[Entry], masks: np.ndarray | None) -> list[Entry]:
    from pycocotools import mask as encoder

    for entry, mask in zip(entries, () if masks is None else masks):
        rle = encoder.encode(np.asfortranarray(mask.astype(np.uint8)))
        entry["segmentation"] = {"size": rle["size"], "counts": rle["counts"].decode("ascii")}
    return entries


def with_resdet(model: Any, paths: Sequence[Path]) -> Iterator[Entry]:
    """Predicts as `resdet predict` does; its allocator setting also affects the sides timed later."""
    keep_freed_memory()
    for number, result in enumerate(model.stream(paths)):
        yield from entries_of(result, number)


def entries_of(result: Result | Classification, number: int) -> list[Entry]:
    if isinstance(result, Result):
        return result.to_coco(number)
    return [{"image_id": number, "labels": result.labels.tolist(), "scores": result.scores.tolist()}]


def with_onnxruntime(model: Model, folder: Path, paths: Sequence[Path]) -> Side:
    """Exports the model to ONNX; returns the prediction with onnxruntime."""
    if missing(*PACKAGES):
        return NOT_INSTALLED
    file = folder / "model.onnx"
    to_onnx(model, file)
    return lambda: write(with_resdet(hub.load(file), paths), folder)


def with_openvino(model: Model, folder: Path, paths: Sequence[Path]) -> Side:
    """Exports the model to OpenVINO; returns the prediction in OpenVINO's default precision."""
    if missing("openvino", *PACKAGES):
        return NOT_INSTALLED
    file = folder / "model.xml"
    to_openvino(model, file)
    return lambda: write(with_resdet(hub.load(file, mode="fast"), paths), folder)


def first_result(weights: Path, image: Path, mode: str) -> None:
    """Runs `resdet predict` on one image, including imports."""
    words = ["predict", "--weights", str(weights), "--mode", mode, str(image)]
    subprocess.run([sys.executable, "-m", "resdet.cli", *words], check=True, stdout=subprocess.DEVNULL)
