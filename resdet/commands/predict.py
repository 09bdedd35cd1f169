"""`resdet predict`: a checkpoint on image files."""

import json
from pathlib import Path
from typing import Any, Optional, Sequence

from resdet.errors import ConfigError, DataError
from resdet.inference.exported import ExportedDetector
from resdet.models import building
from resdet.models.detector import Detector
from resdet.models.localizer import Localizer
from resdet.models.localizer_rcnn import LocalizerRCNN

AT_ONCE = 64  # images whose results are held in memory together


def predict(
    weights: str,
    images: Sequence[str],
    top: int = 5,
    score: Optional[float] = None,
    json_path: Optional[str] = None,
    draw: Optional[str] = None,
) -> None:
    """Prints what is in each image; folders stand for the images in them."""
    paths = list_images(images)
    model = building.load(weights)
    if isinstance(model, (Detector, ExportedDetector)):
        rows = detect(model, paths, score, Path(draw) if draw else None)
    elif isinstance(model, (Localizer, LocalizerRCNN)):
        raise ConfigError(
            f"{weights} is a localizer, which must be told the classes: use resdet evaluate, or its predict in Python."
        )
    elif score is not None or draw:
        raise ConfigError(f"{weights} is a classifier: --score and --draw are for detectors.")
    else:
        rows = classify(model, paths, top)
    if json_path:
        Path(json_path).write_text(json.dumps(rows, indent=1), encoding="utf-8")


def classify(model: Any, paths: Sequence[Path], top: int) -> list[dict]:
    results = model.predict(paths, top=top)
    for path, result in zip(paths, results):
        print(f"{path}: {result}")
    return [
        {"image": str(path), "names": result.names, "scores": [round(float(score), 6) for score in result.scores]}
        for path, result in zip(paths, results)
    ]


def detect(model: Detector, paths: Sequence[Path], score: Optional[float], folder: Optional[Path]) -> list[dict]:
    rows = []
    for start in range(0, len(paths), AT_ONCE):
        for result in model.predict(paths[start : start + AT_ONCE], score):
            print(result)
            rows.append(result.to_dict())
            if folder:
                write_drawn(result, folder, len(rows))
    return rows


def write_drawn(result: Any, folder: Path, number: int) -> None:
    """As folder/NUMBER_NAME.jpg: images of several folders may share a name."""
    import cv2

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{number:04}_{Path(result.image).stem}.jpg"
    cv2.imwrite(str(path), cv2.cvtColor(result.draw(), cv2.COLOR_RGB2BGR))


def list_images(names: Sequence[str]) -> list[Path]:
    from resdet.data.folder import is_image

    paths = []
    for path in map(Path, names):
        found = sorted(p for p in path.iterdir() if is_image(p.name)) if path.is_dir() else [path]
        if not found:
            raise DataError(f"{path} has no images in it: name another folder, or the files.")
        paths += found
    return paths
