"""Applies albumentations transforms by name to images with boxes and masks."""

from dataclasses import replace
from typing import Any

import numpy as np

from resdet.data import augment_names
from resdet.detection.data.scene import Scene, bounds_within, has_area, whole_pixels
from resdet.detection.data.segmentation import Bitmap
from resdet.errors import ConfigError


class SceneAlbumentation:
    """Applies entries such as {"Affine": {"rotate": [-10, 10]}} in order; `rng` is the only source of randomness."""

    def __init__(self, pipeline: list[dict[str, dict[str, Any] | None]]):
        import albumentations as A

        boxes = A.BboxParams("pascal_voc", label_fields=["numbers"], clip=True, filter_invalid_bboxes=True)
        self.steps = []
        for name, transform in augment_names.build(pipeline):
            color = isinstance(transform, A.ImageOnlyTransform)
            step = transform if color else A.Compose([transform], bbox_params=boxes, strict=True)
            self.steps.append((name, step, _recolor if color else _rearrange))

    def __call__(self, scene: Scene, rng: np.random.Generator) -> Scene:
        draws = augment_names.draws(rng)
        for name, step, apply in self.steps:
            step.set_random_state(rng, draws)
            scene = apply(name, step, scene)
        return scene


def _recolor(name: str, step: Any, scene: Scene) -> Scene:
    return replace(scene, pixels=augment_names.run(name, step, scene.pixels)["image"])


def _rearrange(name: str, step: Any, scene: Scene) -> Scene:
    """Applies a spatial transform and tightens the boxes of objects with masks to the visible part."""
    if scene.keypoints is not None:
        raise ConfigError(
            f"data.augment.albumentations: {name} moves pixels, which is not supported for data with keypoints: leave "
            "it out, or set data.keypoints=false."
        )
    width, height = scene.size
    bitmaps = {i: segment.bitmap(height, width) for i, segment in enumerate(scene.segments) if segment is not None}
    masks = {"masks": list(bitmaps.values())} if bitmaps else {}
    result = augment_names.run(name, step, scene.pixels, bboxes=scene.boxes, numbers=np.arange(len(scene)), **masks)

    boxes, segments = np.zeros_like(scene.boxes), list(scene.segments)
    boxes[np.array(result["numbers"], int)] = np.array(result["bboxes"], np.float32).reshape(-1, 4)
    for i, mask in zip(bitmaps, result.get("masks", ())):
        boxes[i] = bounds_within(boxes[i], mask, 0, 0)
        rows, columns = whole_pixels(boxes[i])
        segments[i] = Bitmap(np.ascontiguousarray(mask[rows, columns]), (columns.start, rows.start))
    return Scene(result["image"], boxes, scene.labels, scene.crowd, segments).select(has_area(boxes))
