"""Detections and objects drawn on images of a data set."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from resdet.detection.data.annotations import Annotations
from resdet.detection.data.geometry import scale_of
from resdet.detection.data.scene import Scene
from resdet.detection.evaluation.results import Results
from resdet.errors import DataError
from resdet.images.encode import write_image
from resdet.ops.rle import Decoded
from resdet.results.box_format import xywh_to_xyxy
from resdet.results.spread import spread
from resdet.results.visualizer import apart, draw, draw_keypoints, enlargement, fitted, sheet

SCORE = 0.5  # minimum score of drawn detections


def write_pictures(folder: Path, source: Annotations, results: Results, count: int) -> None:
    """Writes `count` images, evenly spaced over the source, to folder/ID_NAME.jpg; enlarges small images."""
    for index, name, pixels in chosen_images(source, count):
        write_image(folder / f"{name}.jpg", drawn_results(pixels, source, results, index))


def results_beside_truth(source: Annotations, results: Results, count: int) -> dict[str, np.ndarray]:
    """Draws detections next to objects on `count` images, evenly spaced over the source; returns them by name."""
    pictures = {}
    for index, name, pixels in chosen_images(source, count):
        sides = drawn_results(pixels, source, results, index), drawn_objects(pixels, source, index)
        pictures[f"val/{name}"] = sheet([fitted(side) for side in sides], columns=2)
    return pictures


def chosen_images(source: Annotations, count: int) -> Iterator[tuple[int, str, np.ndarray]]:
    """Yields index, ID_NAME and pixels of readable images; the evaluation has reported the others."""
    for index in spread(len(source), count):
        try:
            pixels = source.image(index).decode()
        except DataError:
            continue
        yield index, f"{source.result_id(index)}_{Path(source.name(index)).stem}", pixels


def drawn_results(pixels: np.ndarray, source: Annotations, results: Results, index: int) -> np.ndarray:
    """Draws an image with its detections; enlarges small images."""
    label_of = {category: label for label, category in enumerate(source.category_ids)}
    rows = results.rows_of(source.result_id(index), SCORE)
    labels = [label_of[category] for category in results.category_ids[rows].tolist()]
    captions = [f"{source.classes[label]} {score:.2f}" for label, score in zip(labels, results.scores[rows])]
    scale = scale_of(source, index, pixels)  # some ILSVRC annotations have another size
    boxes = xywh_to_xyxy(results.boxes[rows]) * np.tile(scale, 2)
    masks = Decoded([results.masks[row] for row in rows.tolist()]) if results.masks else None
    size = enlargement(*pixels.shape[:2])
    colors = apart(labels)
    picture = draw(pixels, boxes, colors, captions, masks, size)
    if results.keypoints is not None and source.keypoints is not None:
        points = results.keypoints[rows] * np.append(scale, 1)
        draw_keypoints(picture, points, colors, source.keypoints.skeleton, size)
    return picture


def drawn_objects(pixels: np.ndarray, source: Annotations, index: int, size: int | None = None) -> np.ndarray:
    """Draws an image of any size with its annotated objects, as `drawn_scene`."""
    return drawn_scene(Scene.of(pixels, source.objects(index), scale_of(source, index, pixels)), source, size)


def drawn_scene(scene: Scene, source: Annotations, size: int | None = None) -> np.ndarray:
    """Draws a scene of `source`, `size` times as large; None: enlarges small images.

    The captions of crowds and of VOC's difficult objects end in "(ignored)".
    """
    height, width = scene.pixels.shape[:2]
    size = size or enlargement(height, width)
    masks = None
    if source.has_masks:
        empty = np.zeros((height, width), bool)
        masks = [segment.bitmap(height, width) > 0 if segment else empty for segment in scene.segments]
    names = [source.classes[label] for label in scene.labels]
    captions = [f"{name} (ignored)" if crowd else name for name, crowd in zip(names, scene.crowd)]
    colors = apart(scene.labels.tolist())
    picture = draw(scene.pixels, scene.boxes, colors, captions, masks, size)
    if scene.keypoints is not None and source.keypoints is not None:
        points = scene.keypoints.points.astype(float)
        points[..., 2] = np.where(points[..., 2] > 0, np.inf, -np.inf)  # score of an annotated keypoint
        draw_keypoints(picture, points, colors, source.keypoints.skeleton, size)
    return picture
