"""Exported files as models with `predict`, for any runtime.

Images are resized to the model's test size, or smaller to fit the file's fixed shape, and padded to that shape.
"""

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resdet.classification.model import PREDICT_BATCH, TOP, best_classes
from resdet.detection.config import InputConfig
from resdet.detection.heads.config import KeypointConfig
from resdet.detection.heads.matcher import take
from resdet.detection.heads.roi_heads import final_nms
from resdet.detection.inference.predictor import postprocess
from resdet.errors import WeightsError
from resdet.export import graph_description
from resdet.export.runtime import Runtime
from resdet.images import shape_groups
from resdet.images.crops import center_crop
from resdet.images.decode import as_image
from resdet.images.inputs import predict_all
from resdet.images.resize import resize
from resdet.model import Model, Prepared
from resdet.ops.rle import RLE, encode
from resdet.results.classification import Classification
from resdet.results.result import Result
from resdet.structures import Detections, Images


def model_of(runtime: Runtime, metadata: Mapping[str, str], origin: str) -> "ExportedClassifier | ExportedDetector":
    """Returns the model in a file; `metadata`: resdet's entries as JSON, by key."""
    if not metadata:
        raise WeightsError(
            f"{origin} was not exported by resdet: run it with {runtime.name}, or export its checkpoint with resdet."
        )
    description = graph_description.read(metadata, origin)
    graph_description.check_graph(runtime, description, origin)
    return EXPORTED[description["task"]](runtime, description)


class Exported(Model):
    """Base class of exported models."""

    exported = True

    def __init__(self, runtime: Runtime, description: dict[str, Any]):
        super().__init__()
        self.runtime, self.description = runtime, description
        self.classes, self.experiment = description["classes"], description["experiment"]
        height, width = description["shape"]
        self.shape: tuple[int, int] = (height, width)
        self.outputs = list(runtime.outputs)

    def run(self, **arrays: np.ndarray) -> dict[str, Tensor]:
        """Returns the outputs by name; files with a fixed batch size of 1 run image by image."""
        count = len(arrays["images"])
        batch = self.description["batch"] or count
        parts = []
        for start in range(0, count, batch):
            part = {name: a if a.ndim == 0 else a[start : start + batch] for name, a in arrays.items()}
            parts.append(self.runtime.run(part))
        return {name: torch.from_numpy(np.concatenate(values)) for name, values in zip(self.outputs, zip(*parts))}


class ExportedClassifier(Exported):
    """Predicts logits of uint8 RGB images [B, 3, size, size], and classes of images of any size."""

    task, kind = "classification", "classifier"

    def __init__(self, runtime: Runtime, description: dict[str, Any]):
        super().__init__(runtime, description)
        self.size, self.short = description["size"], description["short"]

    def __call__(self, images: Tensor) -> Tensor:
        return self.run(images=np.ascontiguousarray(images.cpu()))["logits"]

    def predict(self, images: Any, top: int = TOP, batch: int | None = None, stream: bool = False) -> Any:
        """Predicts the `top` classes of one or several images, as `Classifier.predict` does."""
        return predict_all(lambda inputs: self.stream(inputs, top, batch), images, stream)

    def stream(self, images: Iterable, top: int = TOP, batch: int | None = None) -> Iterator[Classification]:
        """Yields the results of `predict` one by one."""
        return shape_groups.stream(self, images, PREDICT_BATCH if batch is None else batch, top=top)

    def prepare_image(self, image: Any) -> Prepared:
        opened = as_image(image)
        return Prepared(self.size, self.prepare([opened]), opened.size[::-1])

    def predict_prepared(
        self, images: Sequence[Prepared], score: float | None = None, top: int | None = None
    ) -> list[Classification]:
        """Does the same as `Classifier.predict_prepared`."""
        crops = torch.cat([prepared.content for prepared in images])
        return best_classes(self(crops).softmax(1), self.classes, TOP if top is None else top)

    def prepare(self, images: Sequence) -> Tensor:
        return crops(images, self.short, self.size)

    def feed(self, image: Any) -> dict[str, np.ndarray]:
        """The graph's inputs for one image."""
        return {"images": np.ascontiguousarray(self.prepare([image]))}


class ExportedDetector(Exported):
    """Detects objects in images of any size, with the results of the exported model."""

    task, kind = "detection", "detector"

    def __init__(self, runtime: Runtime, description: dict[str, Any]):
        super().__init__(runtime, description)
        self.category_ids: list[int] = description["category_ids"]
        self.input: InputConfig = description["input"]
        self.score: float = description["score"]
        self.nms: float = description["suppression"]["iou"]
        self.draws_masks, self.draws_keypoints = "masks" in self.outputs, "heatmaps" in self.outputs
        self.keypoints: KeypointConfig | None = description["keypoints"]

    def predict(self, images: Any, score: float | None = None, batch: int | None = None, stream: bool = False) -> Any:
        """Detects objects in one or several images, as `Detector.predict` does; ignores `batch`, running one by one."""
        return predict_all(lambda inputs: self.stream(inputs, score), images, stream)

    def stream(self, images: Iterable, score: float | None = None) -> Iterator[Result]:
        """Yields the results of `predict` one by one; prefetches two images of a sequence."""
        return shape_groups.stream(self, images, 1, score=score)

    def prepare_image(self, image: Any) -> Prepared:
        padded, originals = self.prepare([image])
        return Prepared(self.shape, padded, originals[0])

    def predict_prepared(
        self, images: Sequence[Prepared], score: float | None = None, top: int | None = None
    ) -> list[Result]:
        """Does the same as `Detector.predict_prepared`."""
        padded = Images(*(torch.cat(field) for field in zip(*(prepared.content for prepared in images))))
        return self.results_of(padded, [prepared.size for prepared in images], score)

    def results_of(
        self, images: Images, originals: Sequence[tuple[int, int]], score: float | None = None
    ) -> list[Result]:
        """Returns the results of padded images; `originals`: heights and widths of the original images."""
        detections, maps = self.detect(images, score)
        if self.description["masks"] != "inside":
            return postprocess(self, maps, detections, images.sizes, originals)
        without_masks = copy.copy(self)  # the graph has already pasted the masks into the padded images
        without_masks.draws_masks = False
        results = postprocess(without_masks, maps, detections, images.sizes, originals)
        for result, padded, size in zip(results, maps[0], images.sizes.int().tolist()):
            result.rles = masks_in_original(padded[: len(result)], size, result.size)
        return results

    def detect(self, images: Images, score: float | None = None) -> tuple[Detections, list[Tensor]]:
        """Returns the detections above `score` in images padded to the file's shape, with their masks and heatmaps, if
        the file predicts them."""
        score = self.score if score is None else score
        arrays = {"images": np.ascontiguousarray(images.pixels), "sizes": images.sizes.numpy()}
        if self.description["nms"] == "outside":
            outputs = self.run(**arrays)
            return suppress(outputs["boxes"], outputs["scores"], score, **self.description["suppression"]), []
        outputs = self.run(**arrays, score=np.array(score, np.float32))
        detections = Detections(*(outputs[name] for name in Detections._fields))
        return detections, [outputs[name] for name in ("masks", "heatmaps") if name in outputs]

    def masks(self, maps: Sequence[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
        """Returns the masks of the first detections, one per box; `maps`: from `detect`."""
        return maps[0][:, : boxes.shape[1]]

    def heatmaps(self, maps: Sequence[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
        """Returns the heatmaps of the first detections, one per box; `maps`: from `detect`."""
        return maps[-1][:, : boxes.shape[1]]

    def prepare(self, images: Sequence) -> tuple[Images, list[tuple[int, int]]]:
        return fit(images, self.input, self.shape)

    def feed(self, image: Any) -> dict[str, np.ndarray]:
        """The graph's inputs for one image."""
        images, _ = self.prepare([image])
        return {"images": np.ascontiguousarray(images.pixels), "sizes": images.sizes.numpy()}


EXPORTED: dict[str, type["ExportedClassifier"] | type["ExportedDetector"]] = {
    "classification": ExportedClassifier,
    "detection": ExportedDetector,
}


def crops(images: Sequence, short: int, size: int) -> Tensor:
    """Returns center crops, uint8 [B, 3, size, size]."""
    pixels = np.stack([center_crop(as_image(image), short, size) for image in images])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def fit(images: Sequence, input: InputConfig, shape: tuple[int, int]) -> tuple[Images, list[tuple[int, int]]]:
    """Resizes and pads images to `shape` (height, width); returns them with their original heights and widths."""
    decoded = [as_image(image) for image in images]
    resized = [resize(image, *sides(*image.size, input, shape), input.resize) for image in decoded]
    padded = np.zeros((len(images), *shape, 3), resized[0].dtype)
    for whole, pixels in zip(padded, resized):
        whole[: pixels.shape[0], : pixels.shape[1]] = pixels
    sizes = torch.tensor([pixels.shape[:2] for pixels in resized], dtype=torch.float32)
    return Images(torch.from_numpy(padded).permute(0, 3, 1, 2), sizes), [image.size[::-1] for image in decoded]


def sides(width: int, height: int, input: InputConfig, shape: tuple[int, int]) -> tuple[int, int]:
    """Returns the limits of an image's short and long side: the model's, or smaller ones that fit `shape`."""
    short, long = sorted((width, height))
    fitting = min(shape[0] / height, shape[1] / width)
    if min(input.min_size / short, input.max_size / long) <= fitting:
        return input.min_size, input.max_size
    # The limiting side is an integer; the other is rounded up so that it does not become the limit.
    return ceil(short * fitting - 1e-6), ceil(long * fitting - 1e-6)


def suppress(boxes: Tensor, scores: Tensor, score: float, candidates: int, iou: float, detections: int) -> Detections:
    """Applies the NMS of `RoIHeads.detect` to boxes [B, N, C or 1, 4] and scores [B, N, C] of proposals."""
    classes, kinds = scores.shape[2], boxes.shape[2]
    best, chosen = scores.flatten(1).topk(min(candidates, scores[0].numel()), dim=1)
    labels, rows = chosen % classes, chosen // classes
    chosen_boxes = take(boxes.flatten(1, 2), chosen if kinds == classes else rows)
    return final_nms(chosen_boxes, best, labels, score, iou, detections)


def masks_in_original(masks: Tensor, size: Sequence[int], original: tuple[int, int]) -> list[RLE]:
    """Converts probabilities [n, H, W] in a padded image with unpadded `size` to masks in the original image."""
    import cv2

    rles = []
    for mask in masks.numpy():
        resized = cv2.resize(mask[: size[0], : size[1]], original[::-1], interpolation=cv2.INTER_LINEAR)
        rles += encode(torch.from_numpy(resized > 0.5)[None], original)
    return rles
