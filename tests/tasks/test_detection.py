"""Tests the settings of detection experiments by their effect on a run."""

import json

import numpy as np
import pytest
import torch
from tasks import runs

from resdet import config
from resdet.backbones import create
from resdet.detection import training
from resdet.detection.task import DetectionTask
from resdet.detection.training import DetectionTraining
from resdet.engine.distributed import World
from resdet.engine.log import Log
from resdet.engine.train_step import step_seed
from resdet.engine.trainer import Trainer
from resdet.structures import each

pytestmark = pytest.mark.usefixtures("narrow")


def train(root, out, *words):
    return runs.train(out, *runs.of(root), *words)


OPTIONS = {
    "accumulated and averaged": ["train.accumulate=2", "train.ema=0.9", "optim.clip_norm=0.1"],
    "bf16": ["train.precision=bf16"],
    "adamw": ["optim.name=adamw", "optim.lr=1e-4", "schedule.name=step", "schedule.milestones=[1]"],
    "jitter and pasting": [
        "data.augment.scale_jitter=[0.3, 2.0]",
        "data.augment.jitter_size=64",
        "data.augment.copy_paste=1",
    ],
    "mosaic and albumentations": [
        "data.augment.mosaic=1",
        "data.augment.crop=1",
        "data.augment.albumentations=[{RandomBrightnessContrast: {p: 1}}, {Affine: {rotate: [-20, 20], p: 1}}]",
        "data.augment.pca_color=0.1",
    ],
    "rare classes more often": ["data.sampling=repeat_factor", "data.repeat_threshold=0.9"],
    "exact statistics": ["train.exact_statistics=8"],
    "boxes alone, agnostic, by GIoU": ["model.mask=null", "model.box.class_agnostic=true", "model.box.loss=giou"],
    "a cascade": ["model.box.ious=[0.5, 0.6]", "model.box.class_agnostic=true"],
    "conv5_x for each region": [
        "model.features=c4",
        "model.rpn.anchors.sizes=[[16, 32, 64]]",
        "model.box.resolution=4",
    ],
}


@pytest.mark.parametrize("option", OPTIONS)
def test_options_train_and_evaluate(root, tmp_path, option):
    """Checks that the losses are finite and that evaluation of the checkpoint reproduces the logged metrics."""
    train(root, tmp_path / "run", *OPTIONS[option])
    lines = runs.metrics(tmp_path / "run", "train")
    assert len(lines) == 2 and all(np.isfinite(value) for line in lines for value in line.values())
    (logged,) = runs.metrics(tmp_path / "run", "val")
    done = runs.here("evaluate", "--weights", tmp_path / "run/best.pth", "--json", tmp_path / "found.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert logged["AP"] == pytest.approx(found["bbox"]["AP"], rel=1e-5)
    for name, value in found["losses"].items():
        assert logged[name] == pytest.approx(value, rel=1e-5), name


def weights(run, name="last.pth"):
    return runs.checkpoint(run / name)["model"]


def test_the_seed_determines_the_weights(root, tmp_path):
    """Checks that equal seeds give equal weights and that another seed gives other weights."""
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(root, tmp_path / name, f"train.seed={seed}", "train.length=1")
    a, b, c = (weights(tmp_path / name) for name in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["rpn.objectness.weight"], c["rpn.objectness.weight"])


class Marked(DetectionTask):
    """A custom task whose models have an attribute `mark`."""

    def build(self, experiment, classes, category_ids=None):
        model = super().build(experiment, classes, category_ids)
        model.mark = True
        return model


def test_a_custom_task_trains_the_model_it_builds(root, tmp_path):
    experiment = config.load("shapes_mask_r18_fpn.yaml", *runs.of(root)[2:])
    world = World(0, 1, torch.device("cpu"))
    assert Marked().open_training(experiment, world, Log(None)).model.mark
    experiment = config.load("shapes_mask_r18_fpn.yaml", *runs.of(root)[2:], "alternating={}")
    for step in Marked().steps(experiment, tmp_path, None)[:1]:
        assert step.open(step.experiment, world, Log(None), None).model.mark


def test_the_first_training_images_are_drawn(root, monkeypatch):
    """Compares the drawn images with those of the first two batches."""
    experiment = config.load("shapes_mask_r18_fpn.yaml", *runs.of(root)[2:])
    task = DetectionTraining(experiment, World(0, 1, torch.device("cpu")), Log(None))
    batches = task.training.batches(0)
    pixels = [image for batch in (next(batches), next(batches)) for image in batch.images.pixels]
    drawn = task.train_images(6)
    assert len(drawn) == 6 and all(max(picture.shape[:2]) >= 320 for picture in drawn)
    monkeypatch.setattr(training, "drawn_scene", lambda scene, source: scene.pixels)
    for picture, image in zip(task.train_images(6), pixels):
        height, width = picture.shape[:2]
        np.testing.assert_array_equal(picture, image[:, :height, :width].permute(1, 2, 0).numpy())


def test_lower_losses_and_higher_metrics_are_better(root):
    experiment = config.load("shapes_mask_r18_fpn.yaml", *runs.of(root)[2:])
    task = DetectionTraining(experiment, World(0, 1, torch.device("cpu")), Log(None))
    metrics = task.evaluate(task.model.eval())
    lower = {name for name in metrics if task.lower_is_better(name)}
    assert lower == {"loss", "rpn_objectness", "rpn_box", "class", "box", "mask"} and task.monitor == "AP"
    assert {"AP", "AP50", "mask_AP75", "AR100"} <= metrics.keys() - lower


def test_accumulated_losses_are_means_over_the_parts(root, tmp_path):
    """Compares the logged losses of a step with the mean over the two halves of its batch."""
    torch.set_num_threads(1)
    experiment = config.load("shapes_mask_r18_fpn.yaml", *runs.of(root)[2:], "train.accumulate=2")
    world = World(0, 1, torch.device("cpu"))
    task = DetectionTraining(experiment, world, Log(None))
    trainer = Trainer(task, experiment.optim, experiment.schedule, experiment.train, world, tmp_path)
    batch = next(task.training.batches(0))
    halves = [
        tuple(each(record, lambda field: field[half]) for record in (batch.images, batch.targets))
        for half in (slice(0, 2), slice(2, 4))
    ]
    torch.manual_seed(step_seed(0, 0, 0))
    with torch.no_grad():
        first, second = (torch.stack([*task.model.train().losses(*half).values()]) for half in halves)
    trainer.take_step(batch)
    torch.testing.assert_close(trainer.window.rows[0], (first + second) / 2)


def test_the_best_checkpoint_contains_averaged_weights(root, tmp_path):
    train(root, tmp_path / "run", "train.ema=0.75", "optim.lr=0.05")
    last, judged = runs.checkpoint(tmp_path / "run/last.pth"), weights(tmp_path / "run", "best.pth")
    averaged = last["trainer"]["averaged"]
    for name, tensor in judged.items():
        assert torch.equal(tensor, averaged[f"module.{name}"])
    assert not torch.equal(judged["rpn.objectness.weight"], last["model"]["rpn.objectness.weight"])


def test_frozen_stages_are_unchanged(root, tmp_path):
    torch.manual_seed(0)
    published = create("resnet18").state_dict()
    torch.save(published, tmp_path / "resnet18.pth")
    train(root, tmp_path / "run", "--init", tmp_path / "resnet18.pth", "model.freeze_stages=2", "optim.lr=0.01")
    found = weights(tmp_path / "run")
    kept = lambda name: torch.equal(found[f"backbone.{name}"], published[name])
    assert kept("conv1.conv.weight") and kept("conv1.norm.running_mean")
    assert kept("conv2_x.1.conv2.norm.running_var") and kept("conv2_x.1.conv2.conv.weight")
    assert not kept("conv3_x.0.conv1.conv.weight") and not kept("conv3_x.0.conv1.norm.running_mean")


def scripted(monkeypatch, figures):
    """Makes evaluations return these AP values in turn and write no files."""
    said = iter(figures)
    monkeypatch.setattr(DetectionTraining, "evaluate", lambda task, model: {"loss": 1.0, "AP": next(said)})
    monkeypatch.setattr(DetectionTraining, "keep", lambda task, folder: None)


def test_the_best_checkpoint_has_the_highest_AP(root, tmp_path, monkeypatch):
    scripted(monkeypatch, [0.1, 0.3, 0.2, 0.25, 0.5])
    words = [
        "train.length=5",
        "train.evaluate_every=1",
        "train.patience=2",
        "train.checkpoint_every=5",
        "model.mask=null",
    ]
    done = train(root, tmp_path / "run", *words)
    assert "stopping early: no better AP in 2 evaluations" in done.stderr
    assert "best at step 2" in done.stdout
    best, last = (runs.checkpoint(tmp_path / "run" / name) for name in ("best.pth", "last.pth"))
    assert best["figures"]["AP"] == 0.3 and best["figures"]["step"] == 2
    assert last["trainer"]["step"] == 4
    assert not torch.equal(best["model"]["rpn.objectness.weight"], last["model"]["rpn.objectness.weight"])


def test_class_aware_sampling_repeats_rare_classes(root, tmp_path, monkeypatch):
    """Checks that the one star among eleven circles makes up about half of an epoch."""
    content = json.loads((root / "annotations/train.json").read_text())
    ids = {entry["name"]: entry["id"] for entry in content["categories"]}
    box = {"bbox": [5, 5, 20, 20], "area": 400, "iscrowd": 0}
    content["annotations"] = [
        {"id": n + 1, "image_id": image["id"], "category_id": ids["star" if n == 0 else "circle"], **box}
        for n, image in enumerate(content["images"])
    ]
    (tmp_path / "rare.json").write_text(json.dumps(content))
    indices, inputs = [], DetectionTraining.inputs

    def watched(task, batch, step):
        indices.extend(batch.indices.tolist())
        return inputs(task, batch, step)

    monkeypatch.setattr(DetectionTraining, "inputs", watched)
    scripted(monkeypatch, [0.1])
    words = [
        "model.mask=null",
        f"data.train.annotations={tmp_path / 'rare.json'}",
        "train.length=3",
        "train.evaluate_every=3",
    ]
    train(root, tmp_path / "run", *words, "data.sampling=class_aware")
    assert len(indices) == 12 and 5 <= indices.count(0) <= 7


def test_images_with_too_many_objects_are_reported_once(root, tmp_path):
    done = train(root, tmp_path / "run", "data.max_objects=1", "train.length=3")
    notes = [line for line in done.stderr.splitlines() if "more than 1 objects" in line]
    names = [line.partition(": ")[2].partition(" has ")[0] for line in notes]
    assert notes and len(names) == len(set(names))
    assert all("only the largest of" in line for line in notes)
