"""Figures 1, 4, 6, 7 and sample detections of finished runs, drawn as SVG and PNG, with their numbers as CSV."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

from resdet.engine.metrics_file import METRICS, read_entries
from resdet.files.atomic import write_text
from resdet.reproduce.records import Figure
from resdet.results.plot import Line, plot, save

TOP = {"figure6": 20.0, "figure1": 20.0, "figure4": 60.0}  # upper limit of the vertical axis in the paper, in percent
IMAGES, BATCH = 1000, 100  # images for the deviations of Figure 7, and batch size


def draw(figure: Figure, weights: Mapping[str, Path], out: Path) -> list[Path]:
    """Draws a figure and returns its files in `out`; `weights`: checkpoints of its nets, in their run folders."""
    stem = out / figure.name
    if figure.kind == "curves":
        return draw_curves({name: path.parent for name, path in weights.items()}, stem, figure.title, TOP[figure.name])
    if figure.kind == "detections":
        (checkpoint,) = weights.values()
        return draw_detections(checkpoint, stem, figure.title)
    return draw_responses(weights, stem, figure.title)


def draw_curves(runs: Mapping[str, Path], stem: Path, title: str, top: float | None = None) -> list[Path]:
    """Plots error over training step, one color per run: training error thin and dashed, validation error bold.

    The error axis ends at `top` if every curve falls below it; otherwise it includes all values.
    """
    lines = []
    for number, (name, folder) in enumerate(runs.items()):
        for kind in ("train", "val"):
            steps, errors = read_errors(folder / METRICS, kind)
            lines.append(Line(f"{name} {kind}", steps, errors, number, thin=kind == "train"))
    rows = [(line.name, x, y) for line in lines for x, y in zip(line.x, line.y)]
    fits = top is not None and all(min(line.y) < top for line in lines if len(line.y))
    files = save(plot(lines, title, "step", "error (%)", top if fits else None), stem)
    return [*files, write_csv(stem, ("curve", "step", "error"), rows)]


def read_errors(metrics: Path, kind: str) -> tuple[list[int], list[float]]:
    """Reads steps and errors, in percent, from the log of a run."""
    entries = [entry for entry in read_entries(metrics) if entry["kind"] == kind and "error" in entry]
    return [entry["step"] for entry in entries], [round(100 * entry["error"], 4) for entry in entries]


def draw_responses(weights: Mapping[str, Path], stem: Path, title: str) -> list[Path]:
    """Plots the standard deviations of layer responses, in layer order and sorted by magnitude."""
    responses = {name: measure(path) for name, path in weights.items()}
    original, falling = [], []
    for number, (name, deviations) in enumerate(responses.items()):
        values = list(deviations.values())
        layers = range(1, len(values) + 1)
        thin = "plain" in name
        original.append(Line(name, layers, values, number, thin))
        falling.append(Line(name, layers, sorted(values, reverse=True), number, thin))
    files = save(plot(original, f"{title}, in order", "layer", "std"), stem)
    files += save(plot(falling, f"{title}, sorted", "layer, by size", "std"), stem.with_name(f"{stem.name}_sorted"))
    rows = [
        (name, i, layer, std)
        for name, deviations in responses.items()
        for i, (layer, std) in enumerate(deviations.items(), start=1)
    ]
    return [*files, write_csv(stem, ("net", "number", "layer", "std"), rows)]


def measure(checkpoint: Path) -> dict[str, float]:
    """Returns {layer: standard deviation of its responses} for a classifier on its validation images."""
    import torch

    from resdet import config, hub
    from resdet.classification.data.config import OnDeviceConfig
    from resdet.classification.model import Classifier
    from resdet.reproduce.responses import response_deviations

    model = hub.load(str(checkpoint), expect=Classifier)
    experiment = config.from_dict(model.experiment, f"the config inside {checkpoint}")
    images = torch.from_numpy(cast(OnDeviceConfig, experiment.data).open("val").images[:IMAGES])

    def batches() -> Iterator[torch.Tensor]:
        for start in range(0, len(images), BATCH):
            yield model.normalize(images[start : start + BATCH])

    return response_deviations(model.backbone, batches())


def draw_detections(checkpoint: Path, stem: Path, title: str) -> list[Path]:
    """Draws validation images with the detections of a detector."""
    from resdet.reproduce.detections import compose, predict_samples

    names, pixels, results = zip(*predict_samples(checkpoint))
    files = save(compose(list(zip(pixels, results)), title), stem)
    rows = [
        (name, kind, f"{score:.4f}", *(f"{side:.1f}" for side in box))
        for name, result in zip(names, results)
        for kind, score, box in zip(result.names, result.scores, result.boxes)
    ]
    return [*files, write_csv(stem, ("image", "class", "score", "x1", "y1", "x2", "y2"), rows)]


def write_csv(stem: Path, head: Sequence[str], rows: Sequence[tuple]) -> Path:
    path, text = stem.with_suffix(".csv"), io.StringIO(newline="")
    csv.writer(text).writerows([head, *rows])
    write_text(path, text.getvalue())
    return path
