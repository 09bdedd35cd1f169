"""What was found in one image, in that image's own pixels and its data set's own names and ids."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from resdet.errors import DataError, Error
from resdet.images.decode import as_image


@dataclass
class Result:
    """n detections of one image, by falling score; a localizer's in the order of the classes that it was given."""

    boxes: np.ndarray  # float32 [n, 4], xyxy in pixels, right and bottom exclusive
    scores: np.ndarray  # float32 [n], 0 to 1
    labels: np.ndarray  # int64 [n], the model's classes from 0 on
    names: list[str]  # of the classes, one a detection
    category_ids: np.ndarray  # int64 [n], the annotation file's ids of the classes
    size: tuple[int, int]  # height and width of the image
    masks: np.ndarray | None = None  # bool [n, H, W]
    image: str | Path | np.ndarray | None = None  # where it came from: a file, or uint8 RGB pixels [H, W, 3]

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
        return cls(boxes, scores, labels, [classes[label] for label in labels], labels + 1, tuple(size), None, image)

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
            masks=None if self.masks is None else self.masks[chosen],
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
        if self.masks is not None:
            for entry, segmentation in zip(entries, _encode(self.masks)):
                entry["segmentation"] = segmentation
        return entries

    def to_dict(self) -> dict[str, Any]:
        """Everything but the pixels, in plain types that JSON takes; boxes stay corners, masks are compressed RLE."""
        detections = [
            {"name": name, "label": int(label), "category_id": int(category), "score": float(score), "box": box}
            for name, label, category, score, box in zip(
                self.names, self.labels, self.category_ids, self.scores, self.boxes.tolist()
            )
        ]
        if self.masks is not None:
            for detection, segmentation in zip(detections, _encode(self.masks)):
                detection["segmentation"] = segmentation
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
        from resdet.inference import drawing

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
        return drawing.draw(pixels, shown.boxes, shown.labels, captions, shown.masks)


def _encode(masks: np.ndarray) -> list[dict[str, Any]]:
    """COCO's compressed run lengths of masks [n, H, W], their counts as text."""
    from pycocotools import mask as coco_mask

    encoded = coco_mask.encode(np.asfortranarray(masks.transpose(1, 2, 0), dtype=np.uint8)) if len(masks) else []
    return [{"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode()} for rle in encoded]
