"""An ONNX file that resdet exported, as a model with `predict`: onnxruntime computes, the results are the same.

Images are resized as the weights want it, shrunk further where the file's fixed shape is smaller, and padded to it.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Union

import numpy as np
import torch
from torch import Tensor

from resdet.classification.model import PREDICT_BATCH, Classification, batches
from resdet.detection.config import InputConfig
from resdet.detection.heads.matcher import take
from resdet.detection.heads.roi_heads import MIN_SIZE
from resdet.detection.inference.predictor import finish
from resdet.errors import Error, WeightsError
from resdet.export import graph_description
from resdet.files.restricted_pickle import reason
from resdet.images.crops import center_crop
from resdet.images.decode import as_image
from resdet.images.resizing import resize
from resdet.ops.nms import nms
from resdet.ops.rle import RLE, encode
from resdet.results.result import Result
from resdet.structures import Detections, Images

CPU = ("CPUExecutionProvider",)
OURS = "resdet."  # begins the keys of our metadata in an ONNX file
QUIET = 3  # onnxruntime's level for errors alone
# What onnxruntime computes ahead of the first image may fill all memory; of ours the anchors are largest, some MB.
LARGEST_CONSTANT = ("optimization.constant_folding_max_output_size_in_bytes", str(1 << 24))


def load(path: str | Path, providers: Sequence[str] = CPU) -> Union["ExportedClassifier", "ExportedDetector"]:
    """The model in an ONNX file; `providers` are onnxruntime's names of what may run it."""
    with explained(f"{path} is not a whole ONNX file"):
        session = open_session(path, providers)
        metadata = session.get_modelmeta().custom_metadata_map
        written = {key[len(OURS) :]: text for key, text in metadata.items() if key.startswith(OURS)}
        if not written:
            raise WeightsError(
                f"{path} was not written by resdet: run it with onnxruntime, or export its checkpoint here."
            )
        description = graph_description.read(written, str(path))
        graph_description.check_graph(session, description, str(path))
    return (ExportedDetector if description["task"] == "detection" else ExportedClassifier)(session, description)


def open_session(path: str | Path, providers: Sequence[str]) -> Any:
    """With as many threads as torch has."""
    try:
        import onnxruntime
    except ImportError:
        raise Error(f"{path} needs a package that is not installed: pip install onnxruntime") from None
    if not Path(path).is_file():
        raise WeightsError(f"{path}: there is no such file; give one that `resdet export` wrote.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = QUIET
    options.add_session_config_entry(*LARGEST_CONSTANT)
    return onnxruntime.InferenceSession(str(path), options, providers=list(providers))


@contextmanager
def explained(what: str) -> Iterator[None]:
    """onnxruntime's errors, which have no base of their own, and names in a file that are no UTF-8, as a sentence."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith("onnxruntime.") and not isinstance(error, UnicodeDecodeError):
            raise
        raise WeightsError(f"{what} ({reason(error)}): export it again.") from None


class Exported:
    """What both kinds share: the session, and what the file says of itself."""

    task: str
    exported = True

    def __init__(self, session: Any, description: dict[str, Any]):
        self.session, self.description = session, description
        self.classes: list[str] = description["classes"]
        self.experiment: dict = description["experiment"]
        self.shape: tuple[int, int] = tuple(description["shape"])
        self.outputs = [output.name for output in session.get_outputs()]

    def run(self, **arrays: np.ndarray) -> dict[str, Tensor]:
        """The outputs by name; where the file takes one image at a time, one after another."""
        count = len(arrays["images"])
        together = self.description["batch"] or count
        parts = []
        for start in range(0, count, together):
            part = {name: a if a.ndim == 0 else a[start : start + together] for name, a in arrays.items()}
            with explained("The graph of an ONNX file cannot be computed"):
                parts.append(self.session.run(self.outputs, part))
        return {name: torch.from_numpy(np.concatenate(found)) for name, found in zip(self.outputs, zip(*parts))}


class ExportedClassifier(Exported):
    """Logits of uint8 RGB images [B, 3, size, size], and classes of whole pictures."""

    task = "classification"

    def __init__(self, session: Any, description: dict[str, Any]):
        super().__init__(session, description)
        self.size, self.short = description["size"], description["short"]

    def __call__(self, images: Tensor) -> Tensor:
        return self.run(images=np.ascontiguousarray(images))["logits"]

    def predict(self, images: Iterable, top: int = 5) -> list[Classification]:
        """Classifies paths and uint8 RGB arrays [H, W, 3]: resized, central crop, `top` classes of each."""
        return list(self.stream(images, top))

    def stream(self, images: Iterable, top: int = 5) -> Iterator[Classification]:
        """The same a batch after another."""
        for batch in batches(images, PREDICT_BATCH):
            scores = self(self.prepare(batch)).softmax(1)
            best = scores.topk(min(top, len(self.classes)), dim=1)
            yield from (self.describe(*pair) for pair in zip(best.indices.numpy(), best.values.numpy()))

    def prepare(self, images: Sequence) -> Tensor:
        return crops(images, self.short, self.size)

    def feed(self, image: Any) -> dict[str, np.ndarray]:
        """The graph's inputs for one image."""
        return {"images": np.ascontiguousarray(self.prepare([image]))}

    def describe(self, labels: np.ndarray, scores: np.ndarray) -> Classification:
        return Classification(labels, scores, [self.classes[label] for label in labels])


class ExportedDetector(Exported):
    """Detections in images of any size, as the model has them that the file was made of."""

    task = "detection"

    def __init__(self, session: Any, description: dict[str, Any]):
        super().__init__(session, description)
        self.category_ids: list[int] = description["category_ids"]
        self.input: InputConfig = description["input"]
        self.score: float = description["score"]
        self.draws_masks = "masks" in self.outputs

    def predict(self, images: Iterable, score: float | None = None) -> list[Result]:
        """One result an image; `images` are paths and uint8 RGB arrays [H, W, 3]."""
        return list(self.stream(images, score))

    def stream(self, images: Iterable, score: float | None = None) -> Iterator[Result]:
        """The same one after another: no more images are read than results are taken."""
        for image in images:
            (result,) = self.results_of(*self.prepare([image]), score)
            result.image = image
            yield result

    def results_of(
        self, images: Images, originals: Sequence[tuple[int, int]], score: float | None = None
    ) -> list[Result]:
        """The results on padded images, whose original heights and widths are given."""
        detections, masks = self.detect(images, score)
        if self.description["masks"] != "inside":
            return finish(self, masks, detections, images.sizes, originals)
        # The masks are those of the padded images already: finish() has none to draw.
        names = SimpleNamespace(
            draws_masks=False, input=self.input, classes=self.classes, category_ids=self.category_ids
        )
        results = finish(names, [], detections, images.sizes, originals)
        for result, padded, size in zip(results, masks[0], images.sizes.int().tolist()):
            result.rles = to_original(padded[: len(result)], size, result.size)
        return results

    def detect(self, images: Images, score: float | None = None) -> tuple[Detections, list[Tensor]]:
        """Detections above `score` in images padded to the file's shape, and their masks, if it draws any."""
        score = self.score if score is None else score
        arrays = {"images": np.ascontiguousarray(images.pixels), "sizes": images.sizes.numpy()}
        if self.description["nms"] == "outside":
            found = self.run(**arrays)
            return suppress(found["boxes"], found["scores"], score, **self.description["suppression"]), []
        found = self.run(**arrays, score=np.array(score, np.float32))
        detections = Detections(*(found[name] for name in Detections._fields))
        return detections, [found["masks"]] if self.draws_masks else []

    def masks(self, maps: Sequence[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
        """Of the first detections, as many as there are boxes: here the maps are the masks already."""
        return maps[0][:, : boxes.shape[1]]

    def prepare(self, images: Sequence) -> tuple[Images, list[tuple[int, int]]]:
        return fit(images, self.input, self.shape)

    def feed(self, image: Any) -> dict[str, np.ndarray]:
        """The graph's inputs for one image."""
        images, _ = self.prepare([image])
        return {"images": np.ascontiguousarray(images.pixels), "sizes": images.sizes.numpy()}


def crops(images: Sequence, short: int, size: int) -> Tensor:
    """The centers of some images, uint8 [B, 3, size, size]."""
    shown = np.stack([center_crop(as_image(image), short, size) for image in images])
    return torch.from_numpy(shown).permute(0, 3, 1, 2)


def fit(images: Sequence, input: InputConfig, shape: tuple[int, int]) -> tuple[Images, list[tuple[int, int]]]:
    """Images resized and padded to one shape (height, width), and their original heights and widths."""
    pictures = [as_image(image) for image in images]
    resized = [resize(picture, *sides(*picture.size, input, shape), input.resize) for picture in pictures]
    padded = np.zeros((len(images), *shape, 3), resized[0].dtype)
    for whole, pixels in zip(padded, resized):
        whole[: pixels.shape[0], : pixels.shape[1]] = pixels
    sizes = torch.tensor([pixels.shape[:2] for pixels in resized], dtype=torch.float32)
    return Images(torch.from_numpy(padded).permute(0, 3, 1, 2), sizes), [p.size[::-1] for p in pictures]


def sides(width: int, height: int, input: InputConfig, shape: tuple[int, int]) -> tuple[int, int]:
    """The limits of a picture's short and long side: the weights' own, or less where they would not fit the shape."""
    short, long = sorted((width, height))
    fitting = min(shape[0] / height, shape[1] / width)
    if min(input.min_size / short, input.max_size / long) <= fitting:
        return input.min_size, input.max_size
    # The side that decides comes out whole; the other one is rounded up, so that it does not decide instead.
    return ceil(short * fitting - 1e-6), ceil(long * fitting - 1e-6)


def suppress(boxes: Tensor, scores: Tensor, score: float, candidates: int, iou: float, detections: int) -> Detections:
    """The detections among regions: boxes [B, N, C or 1, 4] and scores [B, N, C], as `RoIHeads.detect` chooses them."""
    classes, kinds = scores.shape[2], boxes.shape[2]
    best, chosen = scores.flatten(1).topk(min(candidates, scores[0].numel()), dim=1)
    labels, rows = chosen % classes, chosen // classes
    found = take(boxes.flatten(1, 2), chosen if kinds == classes else rows)
    real = (best > score) & (found[..., 2:] - found[..., :2] >= MIN_SIZE).all(2)
    kept, valid = nms(found, best, labels, real, iou, detections)
    return Detections(take(found, kept), take(best, kept), take(labels, kept), valid)


def to_original(masks: Tensor, size: Sequence[int], original: tuple[int, int]) -> list[RLE]:
    """Probabilities [n, H, W] in a padded image, of which `size` is not padding, as masks of the original one."""
    import cv2

    rles = []
    for mask in masks.numpy():
        resized = cv2.resize(mask[: size[0], : size[1]], original[::-1], interpolation=cv2.INTER_LINEAR)
        rles += encode(torch.from_numpy(resized > 0.5)[None], original)
    return rles
