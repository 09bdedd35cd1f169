"""Export of detectors."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from resdet.data.loader import Notes
from resdet.detection.config import DetectionExperiment
from resdet.detection.data.buckets import rounded_up
from resdet.detection.data.sources import open_scenes
from resdet.detection.evaluation.category_map import CategoryMap
from resdet.detection.evaluation.command import check_annotations
from resdet.detection.evaluation.evaluate import detect_one_by_one, kinds_of
from resdet.detection.evaluation.metrics import headline_metrics
from resdet.detection.inference.predictor import border_of, results_of
from resdet.detection.model import Detector
from resdet.engine.distributed import World
from resdet.errors import ConfigError
from resdet.export import verify
from resdet.export.exporters import Agreement, Sides
from resdet.export.form import Form, Place
from resdet.export.model import ExportedDetector, fit
from resdet.ops.boxes import iou
from resdet.ops.masks import paste_probabilities
from resdet.results.result import Result
from resdet.structures import Detections, Images

SAME = 0.5  # minimum IoU of two boxes of the same object
ALL = 0.0  # score threshold of the check, so that every image has detections


class DetectorGraph(nn.Module):
    """Detections in padded images [B, 3, H, W] with unpadded `sizes` [B, 2] (height, width).

    Outputs: boxes [B, D, 4], scores [B, D], labels [B, D], valid [B, D], mask probabilities inside the boxes
    [B, D, m, m] or in the images [B, D, H, W], and heatmaps of keypoints inside the boxes [B, D, K, m, m], logits.
    """

    inputs = ["images", "sizes"]
    score: Any  # a tensor instead of a number, so that it is an input of the graph

    def __init__(self, model: Detector, masks: Place):
        super().__init__()
        self.model, self.paste = model, masks == "inside"
        self.outputs = [*Detections._fields, *["masks"] * model.draws_masks, *["heatmaps"] * model.draws_keypoints]
        self.groups = max(len(model.classes), len(model.levels))
        self.register_buffer("score", torch.tensor(model.score))

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
        model = self.model
        detections, maps = model.detect(Images(images, sizes), self.score)
        outputs = [*detections]
        if model.draws_masks:
            masks = model.masks(maps, detections.boxes, detections.labels)
            if self.paste:
                height, width = images.shape[2:]
                masks = paste_probabilities(masks, detections.boxes, height, width, border_of(model))
            outputs.append(masks)
        if model.draws_keypoints:
            outputs.append(model.heatmaps(maps, detections.boxes, detections.labels))
        return tuple(outputs)


class RegionsGraph(nn.Module):
    """Inputs of the final NMS: boxes [B, N, C or 1, 4] and scores [B, N, C] of all proposals."""

    inputs, outputs = ["images", "sizes"], ["boxes", "scores"]

    def __init__(self, model: Detector):
        super().__init__()
        self.model = model
        self.groups = max(len(model.classes), len(model.levels))

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        model, batch = self.model, Images(images, sizes)
        maps = model.maps(batch)
        proposals = model.propose(maps, batch)
        predictions = model.roi_heads.classify(maps, proposals.boxes, sizes)
        real = proposals.valid[..., None] & torch.isfinite(predictions.scores)
        return model.roi_heads.decode(predictions, sizes), torch.where(real, predictions.scores, 0.0)


class DetectorExporter:
    """Exports detections in padded images."""

    def graph(self, model: Detector, form: Form) -> nn.Module:
        if form.masks == "inside" and not model.draws_masks:
            raise ConfigError("--masks inside is for detectors with masks, but this one has none: omit it.")
        if form.nms == "inside":
            return DetectorGraph(model, form.masks).eval()
        if model.draws_masks or model.draws_keypoints:
            raise ConfigError(
                "Masks and keypoints are computed after NMS: use --nms inside for a detector with masks or keypoints."
            )
        return RegionsGraph(model).eval()

    def shape(self, model: Detector, form: Form) -> tuple[int, int]:
        least = rounded_up(*(form.shape or (model.input.min_size, model.input.max_size)), model.input.divisor)
        if form.shape not in (None, least):
            height, width = form.shape
            raise ConfigError(
                f"--shape is {height}x{width}: give multiples of {model.input.divisor}, such as {least[0]}x{least[1]}."
            )
        return least

    def example(self, model: Detector, form: Form) -> tuple[Tensor, ...]:
        batch, (height, width) = form.example_batch, self.shape(model, form)
        # torchvision's resizing gives fractional pixels.
        dtype = torch.float32 if model.input.resize == "torchvision" else torch.uint8
        sizes = torch.tensor([[height, width]], dtype=torch.float32).repeat(batch, 1)
        return torch.zeros(batch, 3, height, width, dtype=dtype), sizes

    def describe(self, model: Detector, form: Form) -> dict[str, Any]:
        box, keypoints = model.roi_heads.config, model.keypoints if model.draws_keypoints else None
        return {
            "category_ids": model.category_ids,
            "input": dataclasses.asdict(model.input),
            "score": model.score,
            "nms": form.nms,
            "suppression": {"candidates": box.candidates, "iou": box.nms, "detections": box.detections},
            "masks": form.masks if model.draws_masks else None,
            "keypoints": keypoints and {"names": keypoints.keypoint_names, "skeleton": keypoints.limbs},
        }

    def inputs(self, model: Detector, form: Form, images: Sequence) -> tuple[Tensor, ...]:
        return fit(images, model.input, self.shape(model, form))[0]

    def compare(self, model: Detector, exported: ExportedDetector, images: Sequence) -> tuple[Agreement, Sides]:
        batch, _ = exported.prepare(images)
        sizes = [tuple(size) for size in batch.sizes.int().tolist()]  # compares in pixels of the padded images
        expected = results_of(verify.exact(model), batch, sizes, ALL)[-1]
        agrees, note = verify.compare_results(expected, exported.results_of(batch, sizes, ALL)[-1])
        if not agrees and not verify.compare_results(expected, results_of(model, batch, sizes, ALL)[-1])[0]:
            note += "; the checkpoint in float32 differs as well: its weights, if untrained, may amplify rounding"
        return (agrees, note), {
            "eager": lambda: results_of(model, batch, sizes),
            exported.runtime.name: lambda: exported.results_of(batch, sizes),
        }

    def check_data(self, model: Detector, experiment: DetectionExperiment) -> None:
        check_annotations([model], open_scenes(experiment.scenes, "val"))

    def metrics(self, exported: ExportedDetector, experiment: DetectionExperiment) -> dict[str, float]:
        """Returns the AP of the experiment's metric."""
        source, on_bad_image = open_scenes(experiment.scenes, "val"), experiment.scenes.on_bad_image
        world = World(0, 1, torch.device("cpu"))
        categories, score = CategoryMap.of(exported, source), experiment.eval.score
        predictions = detect_one_by_one(exported, source, categories, on_bad_image, world, Notes(print), score)
        return headline_metrics(experiment.eval, source, predictions.results, kinds_of(exported), predictions.left_out)

    def difference(self, exported: ExportedDetector, other: ExportedDetector, image: Any) -> str:
        return difference_of_results(*(model.predict([image])[0] for model in (exported, other)))


def difference_of_results(expected: Result, actual: Result) -> str:
    if not len(expected):
        return f"no detections to compare (the other has {len(actual)}): name an image with objects by --image"
    boxes, others = torch.from_numpy(expected.boxes), torch.from_numpy(actual.boxes)
    same = torch.from_numpy(expected.labels)[:, None] == torch.from_numpy(actual.labels)
    overlaps = iou(boxes, others) * same
    matched = (overlaps >= SAME).any(1) if len(actual) else torch.zeros(len(expected), dtype=torch.bool)
    note = f"{int(matched.sum())} of {len(expected)} detections match"
    if not matched.any():
        return note
    partner = overlaps[matched].argmax(1)
    distance = (boxes[matched] - others[partner]).abs().max()
    scores = (torch.from_numpy(expected.scores)[matched] - torch.from_numpy(actual.scores)[partner]).abs().max()
    return f"{note}, boxes within {distance:.1f} pixels, scores within {scores:.3f}"


exporter = DetectorExporter()
