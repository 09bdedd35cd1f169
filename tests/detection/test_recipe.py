"""Settings chosen from the data, on tables of objects of known sizes."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

import resdet
from resdet import config
from resdet.detection import recipe
from resdet.detection.check.anchors import grid_of
from resdet.detection.check.fit import fit_anchors
from resdet.detection.check.objects import ObjectTable
from resdet.engine.distributed import World
from resdet.engine.log import Log
from resdet.tasks import tasks

SETTINGS = ("model.pretrained=null", "model.backbone=resnet18")


def table(sides, images=20, size=(640, 480), labels=None, classes=("a",), crowd=None):
    """Makes square objects of these sides in turn, two per image."""
    count = 2 * images
    sides = np.resize(np.asarray(sides, float), count)
    boxes = np.stack([np.full(count, 5.0), np.full(count, 5.0), 5 + sides, 5 + sides], 1)
    return ObjectTable(
        np.tile(np.array([size]), (images, 1)),
        np.repeat(np.arange(images), 2),
        boxes,
        np.zeros(count, int) if labels is None else np.asarray(labels),
        np.zeros(count, bool) if crowd is None else np.asarray(crowd),
        list(classes),
    )


def chosen(objects, *words, rules=None):
    experiment, choices = recipe.complete(config.load("custom.yaml", *SETTINGS, *words), objects, rules)
    return experiment, {choice.key: choice.value for choice in choices}


@pytest.mark.parametrize(
    "side, size, expected",
    [
        (40, (640, 480), 384),  # 40 pixels of 480 become 32 of 384
        (100, (640, 480), 320),  # large objects: the lower limit
        (4, (4000, 3000), 800),  # tiny objects: the upper limit
        (10, (256, 256), 512),  # images are enlarged at most twice
    ],
)
def test_small_objects_become_as_large_as_the_smallest_anchor(side, size, expected):
    experiment, values = chosen(table([side], size=size))
    assert experiment.model.input.min_size == values["model.input.min_size"] == expected
    sides = experiment.data.augment.min_size
    assert sides[-1] == expected and sides == sorted(set(sides)) and all(each % 32 == 0 for each in sides)
    assert 0.75 * expected <= sides[0] < expected


def test_a_tenth_of_the_objects_may_stay_smaller_and_crowds_are_ignored():
    assert chosen(table([60] * 19 + [6]))[0].model.input.min_size == 320
    assert chosen(table([60] * 3 + [6]))[0].model.input.min_size == 800
    crowd = np.resize([False, False, False, True], 40)
    assert chosen(table([60] * 3 + [6], crowd=crowd))[0].model.input.min_size == 320


def test_given_sides_are_kept():
    assert chosen(table([40]), "data.augment.min_size=[200,300]")[0].model.input.min_size == 300
    experiment, values = chosen(table([40]), "model.input.min_size=640")
    assert experiment.data.augment.min_size == [512, 544, 576, 608, 640] and "model.input.min_size" not in values
    assert chosen(table([4]), "model.input.max_size=500")[0].model.input.min_size == 500
    experiment = chosen(table([4]), "data.augment.max_size=600")[0]
    assert max(experiment.data.augment.min_size) == 600


@pytest.mark.parametrize(
    "side, size, sizes",
    [
        (100, (640, 480), (320, 533)),  # 1333/800 of the short side
        (100, (256, 256), (320, 533)),
        (100, (1440, 480), (320, 960)),  # of images with a ratio of 3
        (100, (480, 1440), (320, 960)),
        (4, (4000, 500), (800, 1333)),  # the limit for wide images
    ],
)
def test_the_long_side_leaves_room_for_the_images(side, size, sizes):
    experiment, _ = chosen(table([side], size=size))
    assert (experiment.model.input.min_size, experiment.model.input.max_size) == sizes
    assert (max(experiment.data.augment.min_size), experiment.data.augment.max_size) == sizes


def test_a_few_images_may_be_wider():
    objects = table([100], images=20)
    objects.sizes[0], objects.sizes[1] = (2000, 480), (0, 0)  # unknown
    assert chosen(objects)[0].model.input.max_size == 533


def test_given_long_sides_are_kept_and_large_short_sides_fit():
    experiment, values = chosen(table([100]), "model.input.max_size=1000", "data.augment.max_size=700")
    assert (experiment.model.input.max_size, experiment.data.augment.max_size) == (1000, 700)
    assert not {"model.input.max_size", "data.augment.max_size"} & set(values)
    experiment, _ = chosen(table([100]), "model.input.min_size=1600")
    assert experiment.model.input.max_size == 2666 == experiment.data.augment.max_size
    assert max(experiment.data.augment.min_size) == 1600
    experiment, _ = chosen(table([100]), "model.input.min_size=320", "data.augment.min_size=[600]")
    assert (experiment.model.input.max_size, experiment.data.augment.max_size) == (533, 600)
    experiment, _ = chosen(table([100]), "model.input.min_size=500", "model.input.max_size=500")
    assert max(experiment.data.augment.min_size) == experiment.data.augment.max_size == 500


def test_the_length_grows_with_the_root_of_the_number_of_images():
    lengths = [chosen(table([60], images=count))[0].train.length for count in (25, 100, 400)]
    assert lengths == [750, 1500, 3000]  # 600 sqrt(N) images, 4 per step
    assert chosen(table([60], images=6400))[0].train.length == 6400 * 12 / 4  # 12 epochs
    experiment, _ = chosen(table([60], images=100), "train.unit=epochs")
    assert experiment.train.length == 60 and experiment.train.evaluate_every == 7.5 == experiment.train.checkpoint_every
    experiment, _ = chosen(table([60], images=100))
    assert experiment.train.evaluate_every == 188 and experiment.schedule.warmup == 150
    assert chosen(table([60], images=400))[0].schedule.warmup == 200


def test_a_rare_class_is_repeated():
    labels = np.zeros(200, int)
    labels[3] = 1
    experiment, _ = chosen(table([60], images=100, labels=labels, classes=("common", "rare")))
    assert experiment.data.sampling == "repeat_factor" and experiment.data.repeat_threshold == 1
    labels[::4] = 1
    experiment, _ = chosen(table([60], images=100, labels=labels, classes=("common", "other")))
    assert experiment.data.sampling == "uniform"


def test_anchors_change_only_if_too_many_objects_have_none():
    objects = table([60])
    experiment, _ = chosen(objects)
    assert experiment.model.rpn.anchors == config.load("custom.yaml").model.rpn.anchors
    objects.boxes[:, 3] = objects.boxes[:, 1] + 6 * (objects.boxes[:, 2] - objects.boxes[:, 0])  # ratio 1 to 6
    experiment, values = chosen(objects)
    assert experiment.model.rpn.anchors.sizes == values["model.rpn.anchors"]["sizes"]
    assert fit_anchors(objects, experiment.data, grid_of(experiment.model), search=False).recall > 0.95
    kept, _ = chosen(objects, rules=recipe.fine_tuning_rules({}))
    assert kept.model.rpn.anchors == config.load("custom.yaml").model.rpn.anchors


def test_max_objects_fits_all_objects():
    objects = table([60], images=2)
    objects.images[:] = 0
    assert chosen(objects)[0].data.max_objects == 100
    many = table([60], images=70)
    many.images[:] = 0
    assert chosen(many)[0].data.max_objects == 150


@pytest.mark.parametrize("objects, expected", [(2, 128), (8, 128), (9, 256), (16, 256), (17, 512), (90, 512)])
def test_fewer_proposals_are_sampled_for_few_objects(objects, expected):
    several = table([60], images=5 * objects)
    several.images = np.repeat(np.arange(10), objects)
    assert chosen(several)[0].model.box.batch_per_image == expected


def test_crowds_do_not_add_proposals():
    several = table([60], images=45, crowd=np.tile([True] + [False] * 8, 10))
    several.images = np.repeat(np.arange(10), 9)  # nine objects each, one of them a crowd
    assert chosen(several)[0].model.box.batch_per_image == 128


def test_pretrained_stages_are_frozen():
    assert chosen(table([60]))[0].model.freeze_stages == 0
    assert chosen(table([60]), "model.pretrained=torchvision")[0].model.freeze_stages == 2
    assert chosen(table([60]), "model.freeze_stages=1")[0].model.freeze_stages == 1


def test_one_object_is_counted_in_the_singular():
    one = table([40], images=1)
    one = replace(one, images=one.images[:1], boxes=one.boxes[:1], labels=one.labels[:1], crowd=one.crowd[:1])
    reasons = [choice.reason for choice in recipe.complete(config.load("custom.yaml", *SETTINGS), one, None)[1]]
    assert "most images have at most 1 object" in reasons and "an image has up to 1 object" in reasons


def test_no_images_and_no_objects():
    for objects in (table([60], images=0), table([60], images=3, crowd=[True] * 6)):
        experiment, _ = chosen(objects)
        assert not experiment.auto and experiment.train.length >= 10


def test_every_key_has_a_rule_and_a_reason():
    experiment, choices = recipe.complete(config.load("custom.yaml", *SETTINGS), table([60]))
    assert [choice.key for choice in choices] == list(recipe.RULES) and not experiment.auto
    assert set(recipe.RULES) == set(experiment.auto_keys)
    for choice in choices:
        word, reason = str(choice).split(" (", 1)
        assert config.get(config.to_dict(config.load("custom.yaml", *SETTINGS, word)), choice.key) == choice.value
        assert reason.endswith(")")


@pytest.fixture
def folder(tmp_path):
    """Writes two splits of six images, each with a square of 40 pixels."""
    root = tmp_path / "data"
    for split in ("train", "val"):
        (root / split).mkdir(parents=True)
        content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "square"}]}
        for number in range(1, 7):
            cv2.imwrite(str(root / split / f"{number}.png"), np.full((96, 128, 3), 40 * number, np.uint8))
            content["images"].append({"id": number, "file_name": f"{number}.png", "width": 128, "height": 96})
            box = {"bbox": [9, 9, 40, 40], "area": 1600, "iscrowd": 0, "category_id": 1}
            content["annotations"].append({"id": number, "image_id": number, **box})
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"{split}.json").write_text(json.dumps(content))
    return root


def test_a_run_logs_its_choices_and_resumes_with_them(folder, tmp_path, command):
    net = ["model.backbone.norm=bn", "model.rpn.channels=16", "model.neck.width=16", "model.box.width=16"]
    few = ["model.rpn.pre_nms=[40,20]", "model.rpn.post_nms=[20,10]", "model.box.batch_per_image=16"]
    quick = ["train.batch=2", "train.length=4", "data.workers=0", "train.precision=fp32", "optim.clip_norm=1"]
    sides = ["data.augment.max_size=160", "model.input.max_size=160", "data.augment.min_size=[96]"]
    words = ["train", "--config", "custom.yaml", *SETTINGS, *net, *few, *quick, *sides, f"data.root={folder}"]
    done = command(*words, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "chosen for this data: model.input.min_size=96 (the largest of data.augment.min_size)" in done.stderr
    assert "chosen for this data: train.evaluate_every=1 (train.length / 8)" in done.stderr
    written = config.load(tmp_path / "run" / "config.yaml")
    assert not written.auto and written.model.input.min_size == 96 and written.train.evaluate_every == 1
    annotations = folder / "annotations" / "train.json"
    content = json.loads(annotations.read_text())
    copies = content["annotations"] * 30  # a new choice would be a larger max_objects
    content["annotations"] = [{**annotation, "id": number} for number, annotation in enumerate(copies, 1)]
    annotations.write_text(json.dumps(content))
    done = command(*words, "train.length=6", "--resume", "--out", tmp_path / "run")
    assert done.returncode == 0 and "resuming from step 4" in done.stderr, done.stderr
    assert "chosen for this data" not in done.stderr and "changed since the checkpoint: train.length" in done.stderr
    assert config.load(tmp_path / "run" / "config.yaml").data.max_objects == written.data.max_objects == 100


def test_a_training_from_a_detector_has_its_anchors(folder, tmp_path):
    words = ["model.rpn.channels=16", "model.neck.width=16", "model.box.width=16", "model.backbone.norm=bn"]
    words += ["data.augment.min_size=[96]", "data.augment.max_size=160", "data.workers=0", f"data.root={folder}"]
    sizes = [[6.0, 8.0], [12.0, 16.0], [24.0, 32.0], [48.0, 64.0], [96.0, 128.0]]
    given = [f"model.rpn.anchors={{sizes: {sizes}, ratios: [0.5, 2.0], style: torchvision}}", "model.freeze_stages=0"]
    sides = ["model.input.min_size=96", "model.box.batch_per_image=16"]
    model = resdet.build("custom.yaml", *SETTINGS, *words, *given, *sides, "model.num_classes=1")
    content = {"experiment": model.experiment, "classes": model.classes, "category_ids": model.category_ids}
    torch.save({"model": model.state_dict(), **content}, tmp_path / "detector.pth")
    torch.save(model.backbone.state_dict(), tmp_path / "classifier.pth")
    opened = {}
    for name in ("detector", "classifier"):
        experiment = config.load("custom.yaml", *SETTINGS, *words)
        world, weights = World(0, 1, torch.device("cpu")), str(tmp_path / f"{name}.pth")
        opened[name] = tasks["detection"].open_training(experiment, world, Log(None), weights).experiment
    anchors = opened["detector"].model.rpn.anchors
    assert (anchors.sizes, anchors.ratios, anchors.style) == (sizes, [0.5, 2.0], "torchvision")
    assert opened["classifier"].model.rpn.anchors == config.load("custom.yaml").model.rpn.anchors


def test_the_data_check_prints_the_choices(folder, command):
    done = command("data", "check", folder, *SETTINGS)
    assert "a training with this config chooses" in done.stdout and "model.input.min_size=" in done.stdout, done.stderr
