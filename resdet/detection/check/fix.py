"""Writes a cleaned copy of a data set in COCO's format, with a log of the changes.

Makes only changes that need no judgment: drops entries that training would skip, clips boxes, swaps negative sides,
corrects sizes, and drops copies.
"""

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from resdet.data import output_folder
from resdet.detection.check.files import UNUSABLE
from resdet.detection.check.finding import Finding
from resdet.detection.check.report import Report
from resdet.detection.check.split import Split
from resdet.errors import number_of
from resdet.files.tar_member import placeless
from resdet.threads import map_in_threads

LOG = "changes.jsonl"
DROPPED = ("annotation_invalid", "mask_invalid", "box_duplicate")
DROPPED_IMAGES = (*UNUSABLE, "image_id", "image_invalid")
UNCLEAR = ("box_normalized", "box_xyxy", "box_swapped")  # boxes left unchanged
Entry = dict[str, Any]
Changes = list[Entry]


def write_fixed(report: Report, folder: Path) -> int:
    """Writes the images and annotations of all splits, in the layout of configs/custom.yaml, and `LOG`; returns the
    number of changes."""
    output_folder.refuse_filled(folder)
    changes: Changes = []

    def write(place: Path) -> None:
        for split in report.splits:
            findings = [finding for finding in report.findings if finding.split == split.name]
            _write_split(split, findings, place, changes)
        lines = (json.dumps(change) + "\n" for change in changes)
        output_folder.put(place / LOG, "".join(lines).encode())

    output_folder.create(folder, write)
    return len(changes)


def _write_split(split: Split, findings: Sequence[Finding], place: Path, changes: Changes) -> None:
    fixed = Fixed(split, findings)
    changes += fixed.changes
    names = fixed.file_names()
    pairs = {(split.path(row), place / split.name / names[row]) for row in fixed.image_rows}
    map_in_threads(lambda pair: output_folder.copy(*pair), pairs, "copying")
    images = [entry | {"file_name": names[row]} for row, entry in fixed.image_rows.items()]
    content = {**split.content, "images": images, "annotations": list(fixed.annotations.values())}
    output_folder.put(place / "annotations" / f"{split.name}.json", json.dumps(content).encode())


class Fixed:
    """Entries of a split after the changes, by row."""

    def __init__(self, split: Split, findings: Sequence[Finding]):
        self.split, self.changes = split, Changes()
        self.image_rows: dict[int, Entry] = dict(enumerate(split.images.entries))
        self.annotations: dict[int, Entry] = dict(enumerate(split.annotations.entries))
        ids = (entry.get("id") for entry in self.annotations.values())
        self.next_id = 1 + max((each for each in ids if isinstance(each, int)), default=0)
        self.sizes = split.sizes.copy()
        unclear = {finding.rows[0] for finding in findings if finding.kind in UNCLEAR}
        for finding in findings:
            self._apply(finding)
        for row, entry in self.image_rows.items():
            width, height = self.sizes[row].tolist()
            self.image_rows[row] = entry | {"width": width, "height": height}
        for row in [row for row in self.annotations if row not in unclear]:
            self._settle(row)

    def file_names(self) -> dict[int, str]:
        """Returns the images' paths below the folder of the split, one per file."""
        names: dict[str, str] = {}  # by path
        taken = set()
        for row in self.image_rows:
            name = PurePath(*(part for part in placeless(self.split.files[row]).parts if part not in ("..", "/")))
            path = os.path.normpath(self.split.path(row))
            while str(name) in taken and path not in names:
                name = name.with_name(f"{row}_{name.name}")
            names.setdefault(path, str(name))
            taken.add(str(name))
        return {row: names[os.path.normpath(self.split.path(row))] for row in self.image_rows}

    def _apply(self, finding: Finding) -> None:
        """Fixes a finding that does not concern a box."""
        kind, image = finding.kind, finding.image_row
        if kind in DROPPED_IMAGES or (kind == "duplicate_image" and self._same_objects(finding)):
            self._drop_image(finding)
        elif kind == "image_size" and image in self.image_rows:
            self.sizes[image] = finding.values["file"]
            self._log(finding, "set the size to {}x{}".format(*finding.values["file"]))
        elif kind in DROPPED and finding.rows[0] in self.annotations:
            self._drop(finding.rows[0], finding, "dropped the annotation")
        elif kind == "annotation_id" and finding.rows[0] in self.annotations:
            self.annotations[finding.rows[0]] = self.annotations[finding.rows[0]] | {"id": self.next_id}
            self._log(finding, f"gave the annotation the id {self.next_id}")
            self.next_id += 1

    def _same_objects(self, finding: Finding) -> bool:
        """Returns whether a copy of an image has the same boxes and categories as the other image, or none."""
        assert finding.image_row is not None
        objects, other_objects = (self._objects(row) for row in (finding.image_row, finding.values["other_row"]))
        return not objects or objects == other_objects

    def _objects(self, image: int) -> Counter:
        return Counter((self.split.labels[row], *self.split.boxes[row]) for row in self._owned(image))

    def _owned(self, image: int) -> list[int]:
        return np.flatnonzero(self.split.owned & (self.split.owners == image)).tolist()

    def _drop_image(self, finding: Finding) -> None:
        assert finding.image_row is not None
        if self.image_rows.pop(finding.image_row, None) is None:
            return
        owned = self._owned(finding.image_row) if self.split.images.valid[finding.image_row] else []
        dropped = [self.annotations.pop(row) for row in owned if row in self.annotations]
        self._log(finding, f"dropped the image and its {number_of(len(dropped), 'annotation')}")

    def _settle(self, row: int) -> None:
        """Swaps negative sides and clips a box to its image, whose size may have changed; drops an annotation without
        image, category or area."""
        split, image = self.split, int(self.split.owners[row])
        listed = split.owned[row] and image in self.image_rows
        box = split.boxes[row]
        if not listed or not split.categorized[row] or not np.isfinite(box).all():
            known = "box_invalid" if split.categorized[row] else "unknown_category"
            kind = known if listed else "unknown_image"
            self._drop(row, split.of_object(kind, row, ""), "dropped the annotation")
            return
        low, high = np.minimum(box[:2], box[:2] + box[2:]), np.maximum(box[:2], box[:2] + box[2:])
        inner_low, inner_high = np.clip(low, 0, self.sizes[image]), np.clip(high, 0, self.sizes[image])
        kind = "box_no_area" if (high <= low).any() else "box_outside"
        if (inner_high <= inner_low).any():
            self._drop(row, split.of_object(kind, row, ""), "dropped the annotation")
            return
        if (box[2:] < 0).any():
            self._log(split.of_object("box_inverted", row, ""), "swapped the corners")
        if (inner_low != low).any() or (inner_high != high).any():
            self._log(split.of_object("box_clipped", row, ""), "clipped the box to the image")
        elif (box[2:] > 0).all():
            return
        new = [*inner_low.tolist(), *(inner_high - inner_low).tolist()]
        self.annotations[row] = self.annotations[row] | {"bbox": new}

    def _drop(self, row: int, finding: Finding, change: str) -> None:
        del self.annotations[row]
        self._log(finding, change)

    def _log(self, finding: Finding, change: str) -> None:
        place = {"split": finding.split, "image": finding.image, "annotations": list(finding.annotations[:1])}
        self.changes.append({**place, "kind": finding.kind, "change": change})
