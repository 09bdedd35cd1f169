"""A finding of `resdet data check`, and the kinds of findings."""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


class Kind(NamedTuple):
    """Properties shared by all findings of a kind."""

    severity: Severity
    title: str  # title for several findings
    advice: str


LEFT_OUT = "left_out"  # one finding per problem of entries, not per entry
LABEL = "correct the annotation in your labeling tool"

KINDS: dict[str, Kind] = {
    # image files
    "missing": Kind("error", "missing image files", "restore the files, or check the image folder in your config"),
    "unreadable": Kind("error", "unreadable image files", "restore the files"),
    "truncated": Kind("error", "truncated image files", "copy or download the files again"),
    "undecodable": Kind("error", "image files that cannot be decoded", "copy or download the files again"),
    "image_size": Kind("error", "images of another size than annotated", "boxes of a resized image are wrong"),
    "exif": Kind("warning", "images with an ambiguous EXIF orientation", "rotate the pixels and remove the tag"),
    "exif_stored": Kind("note", "images annotated without their EXIF rotation", "resdet ignores the tag, as annotated"),
    "file_twice": Kind("error", "files listed as several images", "merge their annotations"),
    "duplicate_image": Kind("warning", "images equal to another one of their split", "drop the copies"),
    "near_duplicate": Kind("note", "images nearly equal to another one of their split", "look at the pairs"),
    "leak": Kind("error", "images equal to one of another split", "drop them from one split: the evaluation is wrong"),
    "near_leak": Kind("warning", "images nearly equal to one of another split", "keep such images in one split"),
    # entries and ids
    "cannot_open": Kind("error", "splits that cannot be opened", "check the paths in your config"),
    LEFT_OUT: Kind("error", "kinds of entries that the reader leaves out", "correct the files that the lines name"),
    "reader_clipped": Kind("warning", "entries that the reader clips", "training uses the clipped ones"),
    "image_id": Kind("error", "images with an invalid or repeated id", "give each image a unique id"),
    "annotation_id": Kind("error", "annotations with an invalid or repeated id", "give each annotation a unique id"),
    "category_id": Kind("error", "invalid or repeated categories", "give each category a unique id and a name"),
    "unknown_image": Kind("error", "annotations of an image that is not listed", "list the image, or drop them"),
    "unknown_category": Kind("error", "annotations of a category that is not listed", "list the category"),
    "image_invalid": Kind("error", "image entries that cannot be read", "correct file_name, width and height"),
    "annotation_invalid": Kind("error", "annotations that cannot be read", LABEL),
    # boxes
    "box_invalid": Kind("error", "boxes that are not four finite numbers", LABEL),
    "box_inverted": Kind("error", "boxes with negative sides", "swap their corners"),
    "box_no_area": Kind("error", "boxes without area", LABEL),
    "box_normalized": Kind("error", "boxes in fractions of the image", "multiply them by the size of their image"),
    "box_xyxy": Kind("error", "boxes that look like two corners", "write x, y, width and height"),
    "box_swapped": Kind("error", "boxes that look like y, x, height, width", "write x, y, width and height"),
    "box_outside": Kind("error", "boxes outside of their image", LABEL),
    "box_clipped": Kind("warning", "boxes that exceed their image", "training clips them"),
    "box_duplicate": Kind("warning", "objects annotated twice", "drop the copies"),
    "box_two_classes": Kind("warning", "objects annotated as two classes", LABEL),
    # categories
    "category_mismatch": Kind("error", "splits of different categories", "give all splits the same categories"),
    "category_empty": Kind("warning", "categories without objects", "remove the category, or annotate objects"),
    "category_absent": Kind("warning", "categories without objects in a split", "split the data by category"),
    "category_name": Kind("warning", "categories of nearly the same name", "merge them"),
    # masks
    "mask_invalid": Kind("error", "invalid masks", LABEL),
    "mask_missing": Kind(
        "warning", "objects without a mask, among others with one", "draw one: a training of masks ignores the object"
    ),
    "mask_empty": Kind("error", "masks without a pixel", LABEL),
    "mask_differs": Kind("error", "masks that do not match their box", LABEL),
    "mask_outside": Kind("warning", "masks that exceed their box", LABEL),
    "mask_holes": Kind("warning", "masks with holes", "write holes as RLE: polygons of an object are joined"),
    "mask_parts": Kind("note", "masks of many parts", LABEL),
    # training with the config
    "anchors": Kind("warning", "splits with objects that no anchor matches", "set the anchors below"),
    "tiny": Kind(
        "warning", "objects that are too small at the training scale", "raise data.augment.min_size, or use tiles"
    ),
    "crowded": Kind("warning", "images with more objects than data.max_objects", "raise data.max_objects"),
    "imbalance": Kind("note", "rare categories", "consider data.sampling=repeat_factor"),
}


@dataclass(frozen=True)
class Finding:
    """A finding, with its place in the data."""

    kind: str  # key of KINDS
    split: str
    sentence: str
    image: str | None = None  # file name, as in the annotations
    annotations: tuple[Any, ...] = ()  # ids
    values: dict[str, Any] = field(default_factory=dict)
    image_row: int | None = None  # in the annotation file
    rows: tuple[int, ...] = ()  # those of the annotations in the annotation file

    @property
    def severity(self) -> Severity:
        return KINDS[self.kind].severity

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "severity": self.severity,
            "split": self.split,
            "image": self.image,
            "annotations": list(self.annotations),
            "sentence": self.sentence,
            "values": self.values,
        }
