"""`resdet data label`: annotates images with a detector's predictions, for correction in an annotation tool."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resdet.batch_inference.program import Program
from resdet.data import output_folder
from resdet.detection.data.keypoints import KeypointNames
from resdet.detection.data.outlines import polygons_of
from resdet.detection.formats.shapes import mask_of
from resdet.detection.formats.share_classes import Content
from resdet.detection.formats.writer import write_data_set
from resdet.engine import distributed
from resdet.errors import ConfigError, DataError, number_of
from resdet.images.image_files import is_image, walk
from resdet.results.result import Result
from resdet.results.stream import attempts
from resdet.tasks import tasks

VISIBLE = 2  # COCO's flag of a keypoint
SPLIT = "train"


def label(program: Program, source: str, target: str, to: str, device: str = "auto") -> dict[str, Any]:
    """Writes the images of the folder `source`, at any depth, with their detections as a data set in format `to`;
    leaves out unreadable images; returns a summary."""
    output_folder.check_target(target, source)
    paths = images_below(source)
    models, options = program.models(distributed.choose_device(device, key="--device"))
    task = tasks[models[0].task]
    if models[0].kind != "detector":
        raise ConfigError(f"{program.weights[0]} is a {models[0].kind}: give a detector.")
    predictor = task.predictor(models, program.weights, options)
    results: list[Result] = []
    left_out: list[str] = []
    for _, result in attempts(predictor, paths, options.batch, score=task.threshold(options)):
        if isinstance(result, DataError):
            left_out.append(str(result))
        else:
            results.append(result)
    if not results:
        raise DataError(f"{source} has no readable image; the first error: {left_out[0]}")
    written = write_data_set(Path(target), {SPLIT: content_of(results, models[0])}, to)
    objects = number_of(written.objects[SPLIT], "object")
    print(f"{number_of(len(results), 'image')} with {objects} in {target}, in the format {to}")
    for sentence in written.losses(to):
        print(sentence)
    if left_out:
        print(f"left out {number_of(len(left_out), 'image')} that cannot be read, the first: {left_out[0]}")
    return {
        "source": source,
        "root": target,
        "format": to,
        "images": len(results),
        "objects": written.objects[SPLIT],
        "left_out": left_out,
    }


def images_below(folder: str) -> list[Path]:
    """Returns the absolute paths of the images in a folder, at any depth, sorted."""
    if not Path(folder).is_dir():
        raise DataError(f"{folder} is not a folder: name a folder of images.")
    paths = sorted(Path(folder, name).absolute() for name in walk(folder) if is_image(name))
    if not paths:
        raise DataError(f"{folder} has no image: name another folder.")
    return paths


def content_of(results: Sequence[Result], model: Any) -> Content:
    """Returns the results, with paths as images, as a data set in COCO's format with the classes of the model."""
    pose = next((result for result in results if result.keypoints is not None), None)
    keypoints = KeypointNames(list(pose.keypoint_names), list(pose.skeleton)).to_coco() if pose else {}
    categories = [{"id": number, "name": name} | keypoints for number, name in zip(model.category_ids, model.classes)]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, result in enumerate(results, 1):
        height, width = result.size
        images.append({"id": number, "file_name": str(result.image), "width": width, "height": height})
        for entry in result.to_coco(number):
            annotations.append(annotation_of(entry, (width, height)) | {"id": len(annotations) + 1})
    return {"images": images, "annotations": annotations, "categories": categories}


def annotation_of(entry: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """Converts a detection to an annotation: polygons for a mask without holes, which annotation tools can edit, and
    visible keypoints."""
    annotation = {key: value for key, value in entry.items() if key != "keypoint_scores"}
    if segmentation := entry.get("segmentation"):
        rings, has_holes = polygons_of(mask_of(segmentation, size))
        if rings and not has_holes:
            annotation["segmentation"] = rings
        elif not rings:
            del annotation["segmentation"]
    if points := entry.get("keypoints"):
        annotation["keypoints"] = [VISIBLE if place % 3 == 2 else value for place, value in enumerate(points)]
        annotation["num_keypoints"] = len(points) // 3
    return annotation
