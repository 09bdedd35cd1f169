"""Images and their objects: one columnar index for COCO, VOC, ILSVRC DET and VID.

Without Python objects per image or annotation, loader workers share memory pages. The arrays come from
`resdet.detection.data.compile_annotations`, through `resdet.data.array_cache.cached`.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from resdet.data.array_cache import Arrays, Strings
from resdet.detection.data.compile_annotations import NAMED
from resdet.detection.data.keypoints import Keypoints, coco_keys, keypoint_names
from resdet.detection.data.segmentation import Segment
from resdet.detection.data.segmentation_columns import SegmentColumns
from resdet.errors import DataError, number_of
from resdet.files.json_file import read_json
from resdet.files.tar_member import is_remote
from resdet.images.decode import EncodedImage, RawImage, map_image, read_image

BLACKLISTED = "blacklisted_category_ids"  # image key in the ground truth: classes that ILSVRC DET ignores in this image

# Columns for videos, and their keys in COCO's video format
IMAGE_KEYS = {"video_ids": "video_id", "frame_ids": "frame_id"}
OBJECT_KEYS = {
    "instance_ids": "instance_id",
    "occluded": "occluded",
    "generated": "generated",
    "motion_ious": "motion_iou",
}

UNREADABLE = "restore it, or check the image folder in your config"


@dataclass
class Objects:
    """The objects of an image."""

    boxes: np.ndarray  # float32 [n, 4] xyxy in pixels, within the image
    labels: np.ndarray  # int64 [n], indices into the classes
    crowd: np.ndarray  # bool [n]: ignored in training (COCO's crowds, VOC's difficult objects)
    segments: list[Segment | None]  # length n
    keypoints: Keypoints | None = None  # None: no keypoints in the data

    def __len__(self) -> int:
        return len(self.boxes)


class Annotations:
    """Images with objects, their names and ids. Picklable; includes images without objects.

    `classes` are the names of labels 0 to C - 1, `category_ids` their ids in the file. `sizes` is int32 [N, 2], width
    and height. `problems` contains one sentence per kind of problem in the files.
    """

    def __init__(self, arrays: Arrays, root: Path | str, file: Path | None = None, other_sizes: bool = False):
        """`root` is the image folder and `file` the COCO file with all annotations; `other_sizes` allows annotations to
        declare a size other than the image's (some of ILSVRC's do)."""
        self.arrays, self.root, self.file, self.other_sizes = arrays, str(root), file, other_sizes
        self.files = Strings.from_arrays(arrays, "files")
        self.sizes = arrays["sizes"]
        self.classes = list(Strings.from_arrays(arrays, "classes"))
        self.category_ids: list[int] = arrays["category_ids"].tolist()
        self.problems = list(Strings.from_arrays(arrays, "problems"))
        self.notes: list[str] = []  # sentences for the log on how the data were found
        self.keypoints = keypoint_names(arrays)  # None: no keypoints in the data
        self.mirror = None if self.keypoints is None else self.keypoints.mirror

    def __len__(self) -> int:
        return len(self.files)

    def name(self, i: int) -> str:
        """Returns the path of the image, for error messages."""
        return os.path.join(self.root, self.files[i])

    def image(self, i: int) -> EncodedImage:
        return read_image(self.name(i), UNREADABLE).as_annotated(tuple(self.sizes[i].tolist()))

    def header_size(self, i: int) -> tuple[int, int]:
        """Returns (width, height) from the file's header, or the declared size of remote images; raises DataError if
        the annotations declare another size."""
        if is_remote(self.name(i)):
            return tuple(self.sizes[i].tolist())
        image = map_image(self.name(i), UNREADABLE).as_annotated(tuple(self.sizes[i].tolist()))
        check_size(self, i, image)
        return image.size

    def image_id(self, i: int) -> int | str:
        """Returns the id in the annotation file: COCO's id, or the file name without folder and extension."""
        if "image_ids" in self.arrays:
            return int(self.arrays["image_ids"][i])
        return PurePath(self.files[i]).stem

    def result_id(self, i: int) -> int:
        """Returns the image id in results and in `to_coco`: COCO's id, otherwise 1 to N."""
        return int(self.arrays["image_ids"][i]) if self.file else i + 1

    @property
    def blacklist(self) -> np.ndarray:
        """Pairs of image index and category id, int64 [k, 2], that ILSVRC DET does not evaluate."""
        return self.arrays.get("blacklist", np.zeros((0, 2), np.int64))

    @property
    def intact(self) -> bool:
        """Whether the annotation file can serve as ground truth unchanged."""
        return self.file is not None and bool(self.arrays["intact"][0])

    @property
    def has_masks(self) -> bool:
        return len(self.arrays["points"]) + len(self.arrays["runs"]) > 0

    @property
    def has_keypoints(self) -> bool:
        return self.keypoints is not None and bool((self.arrays["keypoints"][..., 2] > 0).any())

    def maskless(self) -> np.ndarray:
        """Returns the indices of objects without a mask, int64 [k]."""
        return np.flatnonzero((np.diff(self.arrays["parts"]) == 0) & (np.diff(self.arrays["strips"]) == 0))

    def maskless_note(self) -> str:
        """Returns a sentence with the number of objects without a mask and their first ids."""
        objects = self.maskless()
        names = self.arrays["numbers"][objects[:NAMED]].tolist() if "numbers" in self.arrays else []
        named = f": {', '.join(map(str, names))}{', …' if len(objects) > NAMED else ''}" if names else ""
        count = f"{number_of(len(objects), 'object')} without a mask"
        return f"{self.file or self.root}: mask AP leaves out {count}{named}"

    def objects(self, i: int) -> Objects:
        start, end = self.arrays["starts"][i : i + 2]
        height = int(self.sizes[i, 1])
        return Objects(
            np.array(self.arrays["boxes"][start:end]),
            self.arrays["labels"][start:end].astype(np.int64),
            np.array(self.arrays["crowd"][start:end]),
            [SegmentColumns.read(self.arrays, k, height) for k in range(start, end)],
            None if self.mirror is None else Keypoints(np.array(self.arrays["keypoints"][start:end]), self.mirror),
        )

    def label_counts(self) -> np.ndarray:
        """Counts objects per class, int64 [C]. Here and below, crowds are not counted, as training ignores them."""
        return np.bincount(self.arrays["labels"][~self.arrays["crowd"]], minlength=len(self.classes))

    def images_with(self) -> np.ndarray:
        """Counts images per class, int64 [C]."""
        return np.bincount(self.presence()[1], minlength=len(self.classes))

    def presence(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the unique pairs of image and class: int64 image indices [k] and labels [k], by ascending image."""
        images = np.repeat(np.arange(len(self)), np.diff(self.arrays["starts"]))
        return unique_pairs(images, self.arrays["labels"], self.arrays["crowd"])

    def to_coco(self) -> dict[str, Any]:
        """Returns the ground truth for evaluators: the COCO file's content without unusable entries and with all image
        sizes, or, for other formats, an equivalent with `result_id`s.

        VOC's difficult objects have `iscrowd`, `ignore` and `difficult` 1, since COCO evaluation ignores only crowds.
        """
        if self.file is None:
            return _compose(self)
        content = read_json(self.file)
        return content if self.intact else usable(content, self.arrays)


def unique_pairs(images: np.ndarray, labels: np.ndarray, crowd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the unique pairs [k] of image and label of the objects [m] that are not crowds, by ascending image."""
    step = int(labels.max(initial=0)) + 1
    return np.divmod(np.unique((images * step + labels)[~crowd]), step)


def usable(content: dict[str, Any], arrays: Arrays) -> dict[str, Any]:
    """Returns a COCO file's content without the entries missing from its index, and with all image sizes."""
    images = [content["images"][row] for row in arrays["image_rows"].tolist()]
    sides = ({"width": width, "height": height} for width, height in arrays["sizes"].tolist())
    return content | {
        "images": [image | size for image, size in zip(images, sides)],
        "annotations": [content["annotations"][row] for row in np.sort(arrays["object_rows"])],
    }


def check_size(source: Annotations, i: int, image: EncodedImage | RawImage) -> None:
    """Raises DataError if the annotations declare another image size, unless the source allows it (`other_sizes`)."""
    declared = tuple(int(side) for side in source.sizes[i])
    if image.size != declared and not source.other_sizes:
        raise DataError(
            f"{source.name(i)} has {image.size[0]}x{image.size[1]} pixels and its annotations declare "
            f"{declared[0]}x{declared[1]}: correct the size there, or set data.on_bad_image=skip."
        )


def concatenate(parts: Sequence[Annotations]) -> Annotations:
    """Concatenates data sets with the same classes, such as VOC 2007 and 2012."""
    first = parts[0]
    if len(parts) == 1:
        return first
    for part in parts[1:]:
        if part.classes != first.classes:
            differing = sorted(set(part.classes) ^ set(first.classes)) or part.classes
            raise DataError(
                f"{part.root} has other classes than {first.root} ({', '.join(differing[:NAMED])}): "
                f"concatenated data sets need the same classes in the same order."
            )
        if part.keypoints != first.keypoints:
            raise DataError(
                f"{part.root} has other keypoints than {first.root}: concatenated data sets need the same; set "
                "data.keypoints=false to read none."
            )
    join = lambda name: np.concatenate([part.arrays[name] for part in parts])
    columns = ["sizes", "boxes", "labels", "crowd", "difficult", "truncated", "points", "runs"]
    columns += ["keypoints"] if first.keypoints else []
    columns += ["image_ids"] if all("image_ids" in part.arrays for part in parts) else []
    offsets = ["starts", "rings", "parts", "strips"]
    names = (part.name(i) for part in parts for i in range(len(part)))
    arrays = {name: join(name) for name in columns}
    arrays |= {name: _join_offsets([part.arrays[name] for part in parts]) for name in offsets}
    firsts = np.cumsum([0, *map(len, parts[:-1])])
    arrays["blacklist"] = np.concatenate([part.blacklist + (first, 0) for part, first in zip(parts, firsts)])
    arrays |= Strings.pack(names).arrays("files")
    arrays |= Strings.pack(sentence for part in parts for sentence in part.problems).arrays("problems")
    arrays |= Strings.pack(first.classes).arrays("classes")
    if "keypoints" in columns and first.keypoints:
        arrays |= first.keypoints.arrays()
    return Annotations(arrays | {"category_ids": first.arrays["category_ids"]}, "", None, first.other_sizes)


def _join_offsets(offsets: list[np.ndarray]) -> np.ndarray:
    """Returns offsets into concatenated arrays from the offsets into each array."""
    bases = np.cumsum([0, *(each[-1] for each in offsets)])
    return np.concatenate([[0], *(each[1:] + base for each, base in zip(offsets, bases))])


def _compose(source: Annotations) -> dict[str, Any]:
    """Builds COCO ground truth from the index."""
    images, annotations = [], []
    of_images, of_objects = (
        {key: source.arrays[name].tolist() for name, key in keys.items() if name in source.arrays}
        for keys in (IMAGE_KEYS, OBJECT_KEYS)
    )
    for i in range(len(source)):
        width, height = source.sizes[i].tolist()
        image = {"id": i + 1, "file_name": source.files[i], "width": width, "height": height}
        images.append(image | {key: values[i] for key, values in of_images.items()})
        objects, first = source.objects(i), int(source.arrays["starts"][i])
        for k, (box, label, crowd, segment) in enumerate(
            zip(objects.boxes.tolist(), objects.labels.tolist(), objects.crowd.tolist(), objects.segments), first
        ):
            difficult = bool(source.arrays["difficult"][k])
            annotation = {
                "id": k + 1,
                "image_id": i + 1,
                "category_id": source.category_ids[label],
                "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                "area": (box[2] - box[0]) * (box[3] - box[1]),
                "iscrowd": int(crowd),
                "ignore": int(difficult),
                "difficult": int(difficult),
            } | {key: values[k] for key, values in of_objects.items()}
            if objects.keypoints is not None:
                annotation |= coco_keys(objects.keypoints.points[k - first])
            annotations.append(annotation | (_masked(segment, height, width) if segment else {}))
    for i, category in source.blacklist.tolist():
        images[i].setdefault(BLACKLISTED, []).append(category)
    declared = source.keypoints.to_coco() if source.keypoints else {}
    pairs = zip(source.category_ids, source.classes)
    categories = [{"id": number, "name": name, **declared} for number, name in pairs]
    return {"images": images, "annotations": annotations, "categories": categories}


def _masked(segment: Segment, height: int, width: int) -> dict[str, Any]:
    from pycocotools import mask

    bitmap = segment.bitmap(height, width)
    rle = mask.encode(np.asfortranarray(bitmap))
    return {"segmentation": rle | {"counts": rle["counts"].decode()}, "area": int(bitmap.sum())}
