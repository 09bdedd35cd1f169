"""What was found in one image, in that image's own pixels and its data set's own names and ids.

Masks are kept as run lengths, a few kilobytes each; the array of all of them is as many times the image.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from resdet.errors import DataError, Error
from resdet.images.decode import as_image
from resdet.ops.rle import RLE, Decoded, encode


@dataclass(init=False)
class Result:
    """n detections of one image, by falling score; a localizer's in the order of the classes that it was given."""

    boxes: np.ndarray  # float32 [n, 4], xyxy in pixels, right and bottom exclusive
    scores: np.ndarray  # float32 [n], 0 to 1
    labels: np.ndarray  # int64 [n], the model's classes from 0 on
    names: list[str]  # of the classes, one a detection
    category_ids: np.ndarray  # int64 [n], the annotation file's ids of the classes
    size: tuple[int, int]  # height and width of the image
    rles: list[RLE] | None  # the masks, where the model draws any
    image: str | Path | np.ndarray | None  # where it came from: a file, or uint8 RGB pixels [H, W, 3]

    def __init__(
        self,
        boxes: np.ndarray,
        scores: np.ndarray,
        labels: np.ndarray,
        names: list[str],
        category_ids: np.ndarray,
        size: tuple[int, int],
        masks: np.ndarray | None = None,
        image: str | Path | np.ndarray | None = None,
        rles: list[RLE] | None = None,
    ):
        """Masks are given as bool [n, H, W], or as `rles`."""
        self.boxes, self.scores, self.labels = boxes, scores, labels
        self.names, self.category_ids = names, category_ids
        self.size, self.image = size, image
        self.rles = rles if masks is None else [rle for mask in masks for rle in encode(torch.tensor(mask)[None], size)]

    @classmethod
    def of(
        cls,
        boxes: np.ndarray,
        scores: np.ndarray,
        labels: np.ndarray,
        classes: Sequence[str],
        size: tuple[int, int],
        image: str | Path | np.ndarray | None = None,
    ) -> "Result":
        """Of a model whose classes have no ids of their own: then they are counted from 1 on."""
        names = [classes[label] for label in labels]
        return cls(boxes, scores, labels, names, labels + 1, tuple(size), image=image)

    @property
    def masks(self) -> np.ndarray | None:
        """bool [n, H, W], decoded at each access; None where the model draws no masks."""
        if self.rles is None:
            return None
        masks = np.zeros((len(self), *self.size), bool)
        for mask, decoded in zip(masks, Decoded(self.rles)):
            mask[:] = decoded
        return masks

    def __len__(self) -> int:
        return len(self.scores)

    def __str__(self) -> str:
        where = "an image" if self.image is None or isinstance(self.image, np.ndarray) else str(self.image)
        count = f"{len(self)} detection{'' if len(self) == 1 else 's'}"
        width = max(map(len, self.names), default=0)
        lines = [f"{count} in {where}, {self.size[1]} x {self.size[0]} pixels"]
        for name, score, box in zip(self.names, self.scores, self.boxes):
            corners = "".join(f"{side:9.1f}" for side in box)
            lines.append(f"  {name:{width}}  {score:.3f}{corners}")
        return "\n".join(lines)

    def select(self, keep: np.ndarray | Sequence[int]) -> "Result":
        """Those detections that `keep` names, by a bool [n] or by indices in the order wanted."""
        chosen = np.arange(len(self))[keep]
        return replace(
            self,
            boxes=self.boxes[chosen],
            scores=self.scores[chosen],
            labels=self.labels[chosen],
            names=[self.names[i] for i in chosen],
            category_ids=self.category_ids[chosen],
            rles=None if self.rles is None else [self.rles[i] for i in chosen],
        )

    def above(self, score: float) -> "Result":
        """The detections of at least this score."""
        return self.select(self.scores >= score)

    def to_coco(self, image_id: int | str) -> list[dict[str, Any]]:
        """Entries of a COCO results file: boxes as x, y, width, height, masks as compressed RLE."""
        corners = self.boxes.astype(float)
        boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1).tolist()
        entries = [
            {"image_id": image_id, "category_id": int(category), "bbox": box, "score": float(score)}
            for category, box, score in zip(self.category_ids, boxes, self.scores)
        ]
        for entry, rle in zip(entries, self.rles or ()):
            entry["segmentation"] = {**rle}
        return entries

    def to_dict(self) -> dict[str, Any]:
        """Everything but the pixels, in plain types that JSON takes; boxes stay corners, masks are compressed RLE."""
        detections = [
            {"name": name, "label": int(label), "category_id": int(category), "score": float(score), "box": box}
            for name, label, category, score, box in zip(
                self.names, self.labels, self.category_ids, self.scores, self.boxes.tolist()
            )
        ]
        for detection, rle in zip(detections, self.rles or ()):
            detection["segmentation"] = {**rle}
        image = str(self.image) if isinstance(self.image, (str, Path)) else None
        return {"image": image, "height": self.size[0], "width": self.size[1], "detections": detections}

    def to_supervision(self) -> Any:
        """The same as supervision's Detections, with the names as data["class_name"]."""
        try:
            import supervision
        except ImportError:
            raise Error("to_supervision needs a package that is not installed: pip install supervision") from None
        return supervision.Detections(
            xyxy=self.boxes,
            mask=self.masks,
            confidence=self.scores,
            class_id=self.labels,
            data={"class_name": np.array(self.names, dtype=str)},
        )

    def draw(self, image: str | Path | np.ndarray | None = None, score: float = 0.0) -> np.ndarray:
        """The image, or another one of its size, with the detections of at least this score: uint8 RGB [H, W, 3]."""
        from resdet.results import drawing

        source = self.image if image is None else image
        if source is None:
            raise DataError("this result does not know its image: give it, as result.draw(image)")
        picture = as_image(source)
        pixels = picture.decode()
        if pixels.shape[:2] != tuple(self.size):
            height, width = pixels.shape[:2]
            raise DataError(
                f"{picture.name} has {width} x {height} pixels, these detections belong to one of "
                f"{self.size[1]} x {self.size[0]}: give the image that they were found in"
            )
        shown = self.above(score)
        captions = [f"{name} {value:.2f}" for name, value in zip(shown.names, shown.scores)]
        masks = None if shown.rles is None else Decoded(shown.rles)
        return drawing.draw(pixels, shown.boxes, shown.labels, captions, masks)
