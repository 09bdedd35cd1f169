"""A validation split for data without one, created once from the training images and stored in a file."""

import json
import os
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np

from resdet.data.array_cache import HIDDEN, user_cache
from resdet.detection.data.annotations import Annotations
from resdet.detection.formats.near_duplicates import group
from resdet.detection.formats.stratify import NEW, VAL, stratify
from resdet.errors import DataError, FileError
from resdet.files.atomic import write_text
from resdet.files.json_file import read_json
from resdet.images.dhash import hashes_of

FILE = "split.json"
NAMES = ("train", "val")


@dataclass
class ValSplit:
    """The split of each image by its path below the root, as in the file."""

    share: float
    seed: int
    state: str = ""  # that of the annotations at the last assignment; if unchanged, there are no new images
    images: dict[str, tuple[str, str]] = field(default_factory=dict)  # `train` or `val`, and the hash in hexadecimal
    file: Path | None = None

    def is_val(self, file: str) -> bool:
        return file in self.images and self.images[file][0] == "val"

    def assign(self, source: Annotations) -> None:
        """Assigns the images without a split."""
        files = list(source.files)
        new = [file for file in files if file not in self.images]
        hashes = {file: int(text, 16) for file, (_, text) in self.images.items()}
        hashes |= dict(zip(new, hashes_of([Path(source.root) / file for file in new]).tolist()))
        presence = np.zeros((len(files), len(source.classes)), bool)
        presence[source.presence()] = True
        sides = np.array([NAMES.index(self.images[file][0]) if file in self.images else NEW for file in files], int)
        groups = group([hashes[file] for file in files])
        assigned = stratify(files, groups, presence, self.share, self.seed, sides)
        for file, side in zip(files, (assigned == VAL).tolist()):
            self.images.setdefault(file, (NAMES[side], f"{hashes[file]:016x}"))

    def save(self, root: Path) -> None:
        """Writes the file next to the data, or to the user's cache if the folder is not writable."""
        content = {"share": self.share, "seed": self.seed, "state": self.state, "images": self.images}
        for file in files_of(root):
            try:
                write_text(file, json.dumps(content, indent=0, sort_keys=True))
            except FileError:
                continue
            self.file = file
            return
        places = " or ".join(map(str, files_of(root)))
        raise FileError(f"The validation split cannot be written to {places}: free some space, or choose another root.")


def files_of(root: Path) -> list[Path]:
    """Returns the possible files of a data set."""
    name = sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    return [root / HIDDEN / FILE, user_cache() / f"{name}-{FILE}"]


def load_val_split(root: Path) -> ValSplit | None:
    """Loads the split of a data set from the newest of its files; None without a file."""
    files = [file for file in files_of(root) if file.is_file()]
    if not files:
        return None
    file = max(files, key=lambda file: file.stat().st_mtime_ns)
    content = read_json(file)
    try:
        images = {name: _entry(*entry) for name, entry in content["images"].items()}
        return ValSplit(float(content["share"]), int(content["seed"]), str(content["state"]), images, file)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{file} is damaged: delete it, or make another split by `resdet data split`.") from error


def _entry(side: str, text: str) -> tuple[str, str]:
    """Returns the entry of an image; raises ValueError if invalid."""
    return NAMES[NAMES.index(side)], f"{int(text, 16) % 2**64:016x}"
