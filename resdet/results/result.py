"""Detections of one image, in the pixels of the original image, with class names and category ids.

Masks are stored run-length encoded, a few kilobytes each.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from resdet.errors import DataError, number_of
from resdet.files.atomic import write_json
from resdet.images.decode import as_image
from resdet.images.encode import write_image
from resdet.ops.rle import RLE, Decoded, encode
from resdet.optional import required
from resdet.results.box_format import xyxy_to_xywh
from resdet.results.keypoints import keypoints_to_coco


@dataclass(init=False, eq=False, repr=False)
class Result:
    """n detections of one image, by descending score; for localizers, in the order of the given classes."""

    boxes: np.ndarray  #: float32 [n, 4], xyxy in pixels, right and bottom exclusive
    scores: np.ndarray  #: float32 [n], 0 to 1
    labels: np.ndarray  #: int64 [n], class indices of the model, from 0
    names: list[str]  #: class name of each detection
    category_ids: np.ndarray  #: int64 [n], category ids of the annotation file
    size: tuple[int, int]  #: height and width of the image
    rles: list[RLE] | None  #: masks; None if the model predicts none
    image: str | Path | np.ndarray | None  #: source: a file, or uint8 RGB pixels [H, W, 3]
    #: float32 [n, K, 3]: x, y in pixels and score, the logit of the heatmap; None if the model predicts none
    keypoints: np.ndarray | None
    keypoint_names: list[str]  #: K
    skeleton: list[tuple[int, int]]  #: pairs of keypoints to connect in drawings
    track_ids: np.ndarray | None  #: int64 [n], numbers of objects in a video, from a Tracker; None without one

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
        keypoints: np.ndarray | None = None,
        keypoint_names: Sequence[str] = (),
        skeleton: Sequence[tuple[int, int]] = (),
        track_ids: np.ndarray | None = None,
    ):
        """Takes masks as either `masks`, bool [n, H, W], or `rles`."""
        self.boxes, self.scores, self.labels = boxes, scores, labels
        self.names, self.category_ids = names, category_ids
        self.size, self.image, self.track_ids = size, image, track_ids
        self.keypoints, self.keypoint_names, self.skeleton = keypoints, list(keypoint_names), list(skeleton)
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
        """Builds a result whose category ids are the labels plus 1."""
        names = [classes[label] for label in labels]
        height, width = size
        return cls(boxes, scores, labels, names, labels + 1, (height, width), image=image)

    @property
    def masks(self) -> np.ndarray | None:
        """bool [n, H, W], decoded on each access; None if the model predicts no masks."""
        if self.rles is None:
            return None
        masks = np.zeros((len(self), *self.size), bool)
        for mask, decoded in zip(masks, Decoded(self.rles)):
            mask[:] = decoded
        return masks

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        return f"<Result: {self._headline()}>"

    def __str__(self) -> str:
        width = max(map(len, self.names), default=0)
        lines = [self._headline()]
        for name, score, box in zip(self.names, self.scores, self.boxes):
            corners = "".join(f"{side:9.1f}" for side in box)
            lines.append(f"  {name:{width}}  {score:.3f}{corners}")
        return "\n".join(lines)

    def _headline(self) -> str:
        """Returns the number of detections, the image and its size."""
        where = "an image" if self.image is None or isinstance(self.image, np.ndarray) else str(self.image)
        return f"{number_of(len(self), 'detection')} in {where}, {self.size[1]} x {self.size[0]} pixels"

    def select(self, keep: np.ndarray | Sequence[int]) -> "Result":
        """Selects detections by a bool mask [n], or by indices, in their order."""
        chosen = np.arange(len(self))[keep]
        return replace(
            self,
            boxes=self.boxes[chosen],
            scores=self.scores[chosen],
            labels=self.labels[chosen],
            names=[self.names[i] for i in chosen],
            category_ids=self.category_ids[chosen],
            rles=None if self.rles is None else [self.rles[i] for i in chosen],
            keypoints=None if self.keypoints is None else self.keypoints[chosen],
            track_ids=None if self.track_ids is None else self.track_ids[chosen],
        )

    def above(self, score: float) -> "Result":
        """Selects the detections with at least this score."""
        return self.select(self.scores >= score)

    def of_classes(self, *names: str) -> "Result":
        """Selects the detections of these classes."""
        return self.select([place for place, name in enumerate(self.names) if name in names])

    def to_coco(self, image_id: int | str) -> list[dict[str, Any]]:
        """Converts to entries of a COCO results file: boxes as x, y, width, height; masks as compressed RLE; keypoints
        as x, y, 1 each in COCO's pixel coordinates, with their scores as `keypoint_scores`."""
        boxes = xyxy_to_xywh(self.boxes.astype(float)).tolist()
        entries = [
            {"image_id": image_id, "category_id": int(category), "bbox": box, "score": float(score)}
            for category, box, score in zip(self.category_ids, boxes, self.scores)
        ]
        for entry, rle in zip(entries, self.rles or ()):
            entry["segmentation"] = {**rle}
        for entry, points in zip(entries, () if self.keypoints is None else self.keypoints):
            entry |= keypoints_to_coco(points)
        return entries

    def to_dict(self) -> dict[str, Any]:
        """Returns all fields except the pixels, in JSON types: boxes as xyxy, masks as compressed RLE, keypoints as
        [x, y, score] by name, and the skeleton as pairs of keypoint indices."""
        detections = [
            {"name": name, "label": int(label), "category_id": int(category), "score": float(score), "box": box}
            for name, label, category, score, box in zip(
                self.names, self.labels, self.category_ids, self.scores, self.boxes.tolist()
            )
        ]
        for detection, number in zip(detections, () if self.track_ids is None else self.track_ids.tolist()):
            detection["track_id"] = number
        for detection, rle in zip(detections, self.rles or ()):
            detection["segmentation"] = {**rle}
        for detection, points in zip(detections, () if self.keypoints is None else self.keypoints.tolist()):
            detection["keypoints"] = dict(zip(self.keypoint_names, points))
        image = str(self.image) if isinstance(self.image, (str, Path)) else None
        skeleton = {} if self.keypoints is None else {"skeleton": [list(pair) for pair in self.skeleton]}
        return {"image": image, "height": self.size[0], "width": self.size[1], **skeleton, "detections": detections}

    def to_supervision(self) -> Any:
        """Converts to supervision's Detections, with the names as data["class_name"]."""
        supervision = required("supervision", "supervision", "to_supervision")
        return supervision.Detections(
            xyxy=self.boxes,
            mask=self.masks,
            confidence=self.scores,
            class_id=self.labels,
            tracker_id=self.track_ids,
            data={"class_name": np.array(self.names, dtype=str)},
        )

    def to_torchvision(self) -> dict[str, torch.Tensor]:
        """Converts to the dict of torchvision's detectors: labels from 1, masks float [n, 1, H, W], keypoints [n, K, 3]
        with visibility 1, and `keypoints_scores` [n, K]."""
        target = {
            "boxes": torch.tensor(self.boxes),
            "labels": torch.from_numpy(self.labels) + 1,
            "scores": torch.tensor(self.scores),
        }
        if (masks := self.masks) is not None:
            target["masks"] = torch.from_numpy(masks)[:, None].float()
        if self.keypoints is not None:
            points = torch.tensor(self.keypoints)
            target["keypoints"] = torch.cat([points[..., :2], torch.ones_like(points[..., 2:])], 2)
            target["keypoints_scores"] = points[..., 2]
        return target

    def to_pandas(self) -> Any:
        """Converts to a pandas DataFrame without masks, one row per detection; keypoints have three columns each, such
        as nose_x, nose_y and nose_score."""
        pandas = required("pandas", "pandas", "to_pandas")
        return pandas.DataFrame(self.columns())

    def columns(self) -> dict[str, Any]:
        """The columns of `to_pandas`, by name."""
        corners = dict(zip(("x1", "y1", "x2", "y2"), self.boxes.T))
        parts = (f"{name}_{part}" for name in self.keypoint_names for part in ("x", "y", "score"))
        keypoints = np.zeros((len(self), 0, 3)) if self.keypoints is None else self.keypoints
        points = dict(zip(parts, keypoints.reshape(len(self), 3 * keypoints.shape[1]).T))
        return {
            "name": self.names,
            "label": self.labels,
            "category_id": self.category_ids,
            "score": self.scores,
            **({} if self.track_ids is None else {"track_id": self.track_ids}),
            **corners,
            **points,
        }

    def save(self, path: str | Path, score: float = 0.0) -> None:
        """Writes the drawn image, enlarged if it is small, or, for the suffix .json, the fields of `to_dict`."""
        if Path(path).suffix.lower() == ".json":
            write_json(str(path), self.above(score).to_dict())
        else:
            write_image(path, self.draw(score=score, scale=None))

    def plot(self, score: float = 0.0) -> Any:
        """Returns the drawn image, enlarged if it is small, as a PIL image, which notebooks display."""
        Image = required("PIL.Image", "pillow", "plot")
        return Image.fromarray(self.draw(score=score, scale=None))

    def draw(
        self,
        image: str | Path | np.ndarray | None = None,
        score: float = 0.0,
        scale: int | None = 1,
        colors: Literal["auto", "class"] = "auto",
    ) -> np.ndarray:
        """Draws the detections with at least this score on the image, or on another image of its size, uint8 RGB
        [H, W, 3], enlarged `scale` times; None: enlarged if the image is small (`visualizer.enlargement`).

        `colors`: one per class, or, with `auto`, one per object if all have the same class. Tracked objects keep their
        color and have their id in the caption.
        """
        from resdet.results import visualizer

        source = self.image if image is None else image
        if source is None:
            raise DataError("This result has no image: pass one, as result.draw(image).")
        opened = as_image(source)
        pixels = opened.decode()
        if pixels.shape[:2] != tuple(self.size):
            height, width = pixels.shape[:2]
            raise DataError(
                f"{opened.name} has {width} x {height} pixels, these detections belong to an image of "
                f"{self.size[1]} x {self.size[0]}: pass the image that was predicted on."
            )
        scale = scale or visualizer.enlargement(*self.size)
        selected = self.above(score)
        captions = [f"{name} {value:.2f}" for name, value in zip(selected.names, selected.scores)]
        masks = None if selected.rles is None else Decoded(selected.rles)
        labels = selected.labels.tolist()
        labels = visualizer.apart(labels) if colors == "auto" else labels
        if selected.track_ids is not None:
            labels = selected.track_ids.tolist()
            captions = [f"#{number} {caption}" for number, caption in zip(labels, captions)]
        drawn = visualizer.draw(pixels, selected.boxes, labels, captions, masks, scale)
        if selected.keypoints is not None:
            visualizer.draw_keypoints(drawn, selected.keypoints, labels, selected.skeleton, scale)
        return drawn
