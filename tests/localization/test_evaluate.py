"""Tests metrics of localizers: boxes annotated at another image size, and evaluation in several processes."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from localization.test_rpn_model import SMALL, build
from painted import Painted

import resdet
from resdet import config
from resdet.classification.config import ClassificationEvalConfig
from resdet.classification.evaluate import scored_images
from resdet.data.loader import Notes, Skipped
from resdet.engine.distributed import World
from resdet.engine.log import Log
from resdet.errors import ConfigError, DataError
from resdet.localization.command import compute_metrics, predict_classes
from resdet.localization.config import LocalizationEvalConfig
from resdet.localization.data.config import ShapeLocConfig
from resdet.localization.evaluate import Located, best_classes, errors, locate_all
from resdet.localization.locate import Locator
from resdet.localization.rpn_training import LocalizationTraining


def test_errors_scale_boxes_annotated_at_another_size():
    """Evaluates images of 60 x 40 annotated at 120 x 120, the last one at 60 x 40; the second image is unreadable."""
    source = Painted([[20, 30, 60, 90]] * 5, [0, 1, 0, 1, 0], (60, 40))
    source.sizes[:4] = 120
    source.things[4] = [10, 10, 30, 30]
    there, not_there = [10, 10, 30, 30], [20, 30, 60, 40]  # not_there: the annotation, clipped but not scaled
    boxes = [
        [there, not_there, there],
        [not_there, not_there, there],
        [there, there, not_there],
        [there, not_there, not_there],
    ]
    guessed = np.array([[1, 0], [-1, -1], [1, 0], [1, 0], [0, 1]])
    sizes = np.array([[40, 60]] * 4, np.float32)
    located = Located(np.array([0, 2, 3, 4]), np.array(boxes, np.float32), np.zeros((4, 3), np.float32), sizes, {})
    # Image 2 is wrong with the ground-truth class; image 4 has a wrong box for the correct predicted class.
    assert errors(source, located, guessed) == pytest.approx(
        {"loc_error": 1 / 4, "top2_loc_error": 1 / 4, "top2_error": 0}
    )


def test_errors_without_images():
    located = Located(*(np.zeros(shape) for shape in ((0,), (0, 1, 4), (0, 1), (0, 2))), {})
    with pytest.raises(DataError, match="Cannot read any validation image"):
        errors(Painted.random(1), located, None)


class Damaged(Painted):
    """The third image is damaged."""

    def image(self, i):
        if i == 2:
            raise DataError("image 2 is cut short")
        return super().image(i)


@pytest.mark.parametrize("batch", [1, 4])
def test_damaged_images_and_those_without_classes_are_left_out(model, batch):
    source, settings = Damaged.random(5), replace(model.locating, batch=batch)
    classes, reasons = np.array([[0, 1], [1, -1], [0, 1], [1, 0], [1, 1]]), []
    where = Locator([model])
    with pytest.raises(DataError, match="cut short"):
        locate_all(where, source, classes, settings, Notes(print), workers=0)
    found = locate_all(where, source, classes, settings, Notes(reasons.append), workers=0, on_bad_image="skip")
    assert found.indices.tolist() == [0, 3, 4] and "image 2 is cut short" in str(reasons)
    assert [result.labels.tolist() for result in found.results(source, classes)] == [[0, 1], [1, 0], [1, 1]]


def test_the_five_best_classes_of_each_image():
    """Compares with the scores of ten crops, which rank other classes first than the center crop; skips an image."""
    torch.manual_seed(0)
    net = resdet.build("shapes_resnet20", "model.backbone=cifar_resnet8", "model.num_classes=7").eval()
    torch.nn.init.normal_(net.backbone.fc.weight, std=1.0)
    source, device = Damaged.random(6, size=(64, 48)), torch.device("cpu")
    options = {"skipped": Skipped(lambda text: None), "workers": 0, "on_bad_image": "skip"}
    ranked = {}
    for views in ("center", "ten_crop"):
        config = ClassificationEvalConfig(batch=20, views=views)
        (batches, _, indices) = zip(*scored_images([net], source, config, device, **options))
        assert torch.cat(indices).tolist() == [0, 1, 3, 4, 5]
        ranked[views] = torch.cat(batches).argsort(1, descending=True)[:, :5].tolist()
    setting = LocalizationEvalConfig(batch=20, classifier_views="ten_crop")
    found = best_classes([net], source, setting, device, **options).tolist()
    assert found[2] == [-1] * 5 and found[:2] + found[3:] == ranked["ten_crop"] != ranked["center"]


class Watched(Painted):
    """Records the indices of the images that are read."""

    def image(self, i):
        self.seen.append(i)
        return super().image(i)


@pytest.fixture
def model():
    return build("model.rpn.batch_per_image=5000").eval()  # all anchors are used: the sampling does not matter


@pytest.fixture
def source(model):
    """Builds seven images: three have the model's predictions as objects, the others boxes without overlap."""
    made = Watched.random(7)
    made.seen = []
    found = locate_all(Locator([model]), made, made.labels[:, None], model.locating, Notes(print), workers=0)
    made.things = found.boxes[:, 0]
    made.things[3:] = [0, 0, 1, 1]
    made.seen.clear()
    return made


def by_two(monkeypatch, work):
    """Returns the results of `work` in two processes, here threads: `gather` returns the parts of both."""
    meeting, own, said = threading.Barrier(2, timeout=30), threading.local(), {}

    def gather(parts):
        said[own.rank] = parts
        meeting.wait()
        both = said[0] + said[1]
        meeting.wait()
        return both

    def run(rank):
        own.rank = rank
        torch.set_num_threads(1)
        return work(World(rank, 2, torch.device("cpu")))

    for module in ("localization.evaluate", "detection.evaluation.validation_loss"):
        monkeypatch.setattr(f"resdet.{module}.gather", gather)
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(run, (0, 1)))


ALONE = World(0, 1, torch.device("cpu"))


def test_processes_share_the_images_of_evaluate(model, source, monkeypatch):
    """Checks that the processes share the images, and that each one returns the metrics of all images."""
    monkeypatch.setattr(ShapeLocConfig, "open", lambda *given: source)
    experiment = config.load("shapes_loc_r18", *SMALL, "data.workers=0")
    nets = [resdet.build("shapes_resnet20", "model.backbone=cifar_resnet8", "model.num_classes=2").eval()]
    nets[0].classes = source.classes
    work = lambda world: (
        compute_metrics(Locator([model], experiment.eval), nets, experiment, world),
        predict_classes(nets, source, experiment, world).tolist(),
    )
    figures, guesses = work(ALONE)
    assert figures["loc_error"] == pytest.approx(4 / 7)
    assert sorted(source.seen) == sorted([*range(7)] * 3)  # the classifier runs twice
    source.seen.clear()
    for found, guessed in by_two(monkeypatch, work):
        assert found == pytest.approx(figures) and guessed == guesses
    assert sorted(source.seen) == sorted([*range(7)] * 3)


def test_processes_share_the_validation_images_of_a_run(model, source, monkeypatch):
    """Checks that the boxes come in the order of the images, and that the losses are the means over all images."""
    monkeypatch.setattr(ShapeLocConfig, "open", lambda *given: source)
    experiment = config.load("shapes_loc_r18", *SMALL, "data.workers=0", "eval.batch=1")

    def work(world):
        task = LocalizationTraining(experiment, world, Log(None))
        assert (task.monitor, task.lower_is_better("loc_error")) == ("loc_error", True)
        return task.evaluate(model.train()), task.located

    figures, located = work(ALONE)
    assert figures.keys() == {"loss", "rpn_class", "rpn_box", "loc_error"}
    assert figures["loc_error"] == pytest.approx(4 / 7)
    source.seen.clear()
    for found, places in by_two(monkeypatch, work):
        assert found == pytest.approx(figures, rel=1e-4)
        assert places.indices.tolist() == list(range(7))
        np.testing.assert_allclose(places.boxes, located.boxes, atol=1e-3)
    assert sorted(source.seen) == list(range(7))


def test_validation_losses_may_be_left_out(model, source, monkeypatch):
    monkeypatch.setattr(ShapeLocConfig, "open", lambda *given: source)
    experiment = config.load("shapes_loc_r18", *SMALL, "data.workers=0", "eval.losses=false")
    assert LocalizationTraining(experiment, ALONE, Log(None)).evaluate(model).keys() == {"loc_error"}


def test_splits_of_different_classes_are_rejected(source, monkeypatch):
    other = Painted.random(2)
    other.classes = other.classes[::-1]
    opened = {"train": source, "val": other}
    monkeypatch.setattr(ShapeLocConfig, "open", lambda _, split: opened[split])
    with pytest.raises(DataError, match="training and validation images have different synsets"):
        LocalizationTraining(config.load("shapes_loc_r18", *SMALL), ALONE, Log(None))


@pytest.mark.parametrize(
    "change, told",
    [
        (lambda names: [*names, "n00000003"], "The model has 2 classes but the data has 3"),
        (lambda names: names[::-1], "Class 0 is n00000002 in the data and n00000001 in the model"),
    ],
)
def test_data_of_other_classes_are_rejected(model, source, monkeypatch, change, told):
    source.classes = change(source.classes)
    monkeypatch.setattr(ShapeLocConfig, "open", lambda *given: source)
    experiment = config.load("shapes_loc_r18", *SMALL)
    with pytest.raises(ConfigError, match=told):
        compute_metrics(Locator([model], experiment.eval), [], experiment, ALONE)
