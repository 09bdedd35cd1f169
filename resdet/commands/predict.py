"""`resdet predict`: a checkpoint on image files."""

import json
from pathlib import Path
from typing import Optional, Sequence

from resdet.errors import DataError
from resdet.models import building


def predict(weights: str, images: Sequence[str], top: int = 5, json_path: Optional[str] = None) -> None:
    """Prints the best classes of each image; folders stand for the images in them."""
    paths = list_images(images)
    results = building.load(weights).predict(paths, top=top)
    for path, result in zip(paths, results):
        print(f"{path}: {result}")
    if json_path:
        rows = [
            {"image": str(path), "names": result.names, "scores": [round(float(score), 6) for score in result.scores]}
            for path, result in zip(paths, results)
        ]
        Path(json_path).write_text(json.dumps(rows, indent=1), encoding="utf-8")


def list_images(names: Sequence[str]) -> list[Path]:
    from resdet.data.folder import is_image

    paths = []
    for path in map(Path, names):
        found = sorted(p for p in path.iterdir() if is_image(p.name)) if path.is_dir() else [path]
        if not found:
            raise DataError(f"{path} has no images in it: name another folder, or the files.")
        paths += found
    return paths
