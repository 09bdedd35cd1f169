"""Tests four-step alternating training: trained and frozen parameters of each step, resuming, and the result."""

import copy
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detection.heads import tiny
from detection.inference import micro
from tasks import runs

import resdet
from resdet import config
from resdet.backbones import create
from resdet.detection.build import build_detector
from resdet.detection.four_step_training import STEPS, RegionsStep, RPNStep, experiment_of, freeze, open_step
from resdet.engine.distributed import World
from resdet.engine.log import Log

pytestmark = pytest.mark.usefixtures("narrow")

FOUR = [
    "alternating={rpn: {batch: 4, length: 2, milestones: [1]}, regions: {batch: 2, length: 3, milestones: [2]}}",
    "schedule.name=step",
    "train.evaluate_every=9",
    "optim.lr=1e-3",
]


@pytest.fixture(scope="module")
def published(module_folder):
    torch.manual_seed(0)
    path = module_folder("weights") / "resnet18.pth"
    torch.save(create("resnet18").state_dict(), path)
    return path


@pytest.fixture(scope="module")
def run(root, published, module_folder):
    """Trains from classifier weights, with batch norm, whose statistics must be frozen too."""
    folder = module_folder("alternating") / "run"
    runs.train(folder, *runs.of(root), *FOUR, "--init", published)
    return folder


def test_the_steps_share_the_time():
    experiment = config.load("coco_r101_alternating.yaml", "train.minutes=60")
    assert [experiment_of(name, experiment).train.minutes for name in STEPS] == [15] * 4
    assert experiment_of(STEPS[0], config.load("coco_r101_alternating.yaml")).train.minutes is None


def test_the_steps_have_the_lengths_of_their_half():
    words = ["alternating.rpn={batch: 3, length: 40, milestones: [20, 30]}", "eval.losses=false", "train.monitor=AP50"]
    experiment = config.load("coco_r101_alternating.yaml", *words)
    steps = [experiment_of(name, experiment) for name in STEPS]
    assert [step.train.batch for step in steps] == [3, 16, 3, 16]
    assert [step.train.length for step in steps] == [40, 320000, 40, 320000]
    assert [step.schedule.milestones for step in steps] == [[20, 30], [240000]] * 2
    assert [step.eval.losses for step in steps] == [True, True, True, False]  # the first three have no other metric
    assert [step.train.monitor for step in steps] == [None, None, None, "AP50"]
    assert experiment.alternating.rpn.batch == 3 and not any(step.alternating for step in steps)


def test_a_refused_start_leaves_no_run(root, tmp_path, monkeypatch):
    """Checks that the corrected command can use the same folder."""
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        words = [*runs.of(root), *FOUR, "data.val={images: val, annotations: none.json}"]
        assert "none.json" in runs.sentence(runs.here("train", *words))
        assert [*(tmp_path / "runs").iterdir()] == []


def state(run, step):
    return runs.checkpoint(run / STEPS[step - 1] / "last.pth")["model"]


def same(a, b, *prefixes):
    """Returns, for each tensor with one of these prefixes, whether it is equal in both."""
    names = [name for name in a if name.startswith(prefixes) and not name.endswith("num_batches_tracked")]
    assert names
    return [torch.equal(a[name], b[name]) for name in names]


def test_each_step_logs_only_its_losses(run):
    for number, step in enumerate(STEPS, 1):
        lines = runs.metrics(run / step, "train")
        names = {"rpn_objectness", "rpn_box"} if number % 2 else {"class", "box", "mask"}
        others = {"rpn_objectness", "rpn_box", "class", "box", "mask"} - names
        assert len(lines) == (2 if number % 2 else 3)
        assert all(names <= line.keys() and not others & line.keys() for line in lines)
        assert [line["lr"] for line in lines][-2:] == pytest.approx([1e-3, 1e-4])
        (judged,) = runs.metrics(run / step, "val")
        assert np.isfinite([*judged.values()]).all() and ("AP" in judged) == (number == 4)
        if number < 4:
            assert judged["loss"] == pytest.approx(sum(judged[name] for name in names), rel=1e-4)
    assert (run / "config.yaml").exists() and (run / STEPS[3] / "results.json").exists()


def test_trained_and_frozen_tensors_of_each_step(run):
    one, two, three, four = (state(run, step) for step in (1, 2, 3, 4))
    shared = ("backbone.", "neck.")
    assert not all(same(one, two, *shared))  # both start from the initial weights
    assert all(same(two, three, *shared)) and all(same(three, four, *shared))
    assert not any(same(two, three, "rpn.objectness", "rpn.deltas", "rpn.convs"))
    assert not any(same(one, three, "rpn.objectness", "rpn.deltas", "rpn.convs"))
    assert all(same(three, four, "rpn.")) and all(same(two, three, "roi_heads."))
    assert not any(same(three, four, "roi_heads.stages.0.predictor", "roi_heads.stages.0.head"))


def recorded(calls, name, propose):
    """Returns `propose`, which also adds the name and its keyword arguments to `calls`."""
    return lambda *given, **more: calls.append((name, more)) or propose(*given, **more)


def test_the_second_step_uses_the_proposals_of_the_first_rpn(run, published, monkeypatch):
    """Checks that step 2 uses the unchanged detector of step 1 for proposals, and step 4 the trained model."""
    experiment = experiment_of(STEPS[1], config.load(run / "config.yaml"))
    world = World(0, 1, torch.device("cpu"))
    task = open_step(STEPS[1], run, build_detector, experiment, world, Log(None), str(published))
    (proposer,) = task.step.proposer
    assert proposer not in (None, task.model) and not proposer.training
    assert all(same(state(run, 1), proposer.state_dict(), ""))
    assert {id(p) for p in task.step.parameters()} == {id(p) for p in task.model.parameters()}

    batch, asked = next(task.training.batches(0)), []
    for name, model in (("first", proposer), ("own", task.model)):
        monkeypatch.setattr(model, "propose", recorded(asked, name, model.propose))
    task.step(batch.images, batch.targets)
    assert asked == [("first", {"training": True})]  # as many proposals as in joint training
    assert open_step(STEPS[3], run, build_detector, experiment, world, Log(None), None).step.proposer == (None,)


def test_validation_losses_are_means_over_images(run):
    """Evaluates six images in batches of four and two, with the number of images as the loss of each batch."""
    experiment = experiment_of(STEPS[0], config.load(run / "config.yaml"))
    task = open_step(STEPS[0], run, build_detector, experiment, World(0, 1, torch.device("cpu")), Log(None), None)
    step = lambda images, targets: ({"count": torch.tensor(float(len(images.sizes)))}, {})
    task.step = SimpleNamespace(of=lambda model: step)
    assert task.evaluate(task.model) == pytest.approx({"loss": 20 / 6, "count": 20 / 6})


def test_evaluating_the_final_detector_gives_the_logged_AP(run, tmp_path):
    best = run / STEPS[3] / "best.pth"
    done = runs.here("evaluate", "--weights", best, "--json", tmp_path / "f.json")
    assert done.returncode == 0, done.stderr
    (judged,) = runs.metrics(run / STEPS[3], "val")
    found = json.loads((tmp_path / "f.json").read_text())
    assert judged["AP"] == pytest.approx(found["bbox"]["AP"], rel=1e-5)
    assert resdet.load(best).experiment["alternating"] is None


def test_resume_continues_in_the_interrupted_step(root, run, published, tmp_path):
    """Removes steps 3 and 4, resumes and compares the final weights bit for bit."""
    copied = tmp_path / "run"
    shutil.copytree(run, copied)
    shutil.rmtree(copied / STEPS[3])
    shutil.rmtree(copied / STEPS[2])
    words = [*runs.of(root), *FOUR, "--init", published, "--out", copied]
    assert "--resume" in runs.sentence(runs.here("train", *words))
    done = runs.here("train", *words, "--resume")
    assert done.returncode == 0, done.stderr
    assert "complete and kept: 1_rpn\n" in done.stderr and "the run is complete" in done.stderr
    assert all(same(state(run, 4), state(copied, 4), ""))


def test_a_longer_run_continues_in_its_last_step(root, run, published, tmp_path):
    """Checks that the results of the first steps do not change after the last step has started from them."""
    copied = tmp_path / "run"
    shutil.copytree(run, copied)
    longer = ["alternating.rpn.length=4", "alternating.regions.length=5"]
    done = runs.here("train", *runs.of(root), *FOUR, *longer, "--init", published, "--out", copied, "--resume")
    assert done.returncode == 0, done.stderr
    files = [copied / step / "last.pth" for step in STEPS]
    assert [runs.checkpoint(file)["trainer"]["step"] for file in files] == [2, 3, 2, 5]
    assert "complete and kept: 1_rpn, 2_regions, 3_rpn\n" in done.stderr


def test_given_weights_start_the_first_two_steps(run, published):
    """Checks that both steps end near the given backbone weights, with different RPN weights."""
    wanted = torch.load(published)["conv4_x.0.conv1.conv.weight"]
    for step in (1, 2):
        found = state(run, step)["backbone.conv4_x.0.conv1.conv.weight"]
        assert 0 < (found - wanted).abs().max() < 0.01 < wanted.std()
    assert not any(same(state(run, 1), state(run, 2), "rpn.objectness", "rpn.deltas", "rpn.convs"))


def test_losses_of_both_steps_equal_joint_training():
    """Compares the losses of RPNStep and of RegionsStep on the model's proposals with those of joint training."""
    model = tiny.make("c4", everything=True).train()
    images, targets = tiny.images((64, 64), (64, 50)), tiny.targets([[5.0, 8.0, 30.0, 40.0]], [])
    joint = model.losses(images, targets)
    proposals, _ = RPNStep(model)(images, targets)
    regions, _ = RegionsStep(model, None)(images, targets)
    assert {name: loss.item() for name, loss in joint.items()} == pytest.approx(
        {name: loss.item() for name, loss in (proposals | regions).items()}, rel=1e-5
    )


def test_both_steps_take_images_without_objects():
    model = tiny.make("c4", everything=True).train()
    images, targets = tiny.images((64, 64)), tiny.targets([], places=0)
    for step in (RPNStep(model), RegionsStep(model, None)):
        losses, _ = step(images, targets)
        assert all(loss.isfinite() for loss in losses.values())


def test_regions_step_takes_the_proposals_of_another_detector():
    model, other = tiny.make("c4", False, everything=True).train(), tiny.make("c4", False).eval()
    with torch.no_grad():
        other.rpn.objectness.weight.mul_(-1)
    images, targets = tiny.images((64, 64)), tiny.targets([[5.0, 8.0, 30.0, 40.0]], masks=False)
    step = RegionsStep(model, other)
    found, _ = step(images, targets)
    proposals = other.rpn.propose(other.rpn(other.maps(images), (64, 64)), images.sizes, training=True)
    expected = model.roi_heads.losses(model.maps(images), proposals, targets, images.sizes)
    for name, loss in expected.items():
        assert found[name].item() == pytest.approx(loss.item(), rel=1e-5)
    assert found["class"].item() != pytest.approx(
        RegionsStep(model, None)(images, targets)[0]["class"].item(), rel=1e-5
    )
    sum(found.values()).backward()
    assert all(parameter.grad is None for parameter in (*other.parameters(), *model.rpn.parameters()))
    assert {id(p) for p in step.parameters()} == {id(p) for p in model.parameters()}


@pytest.mark.slow
def test_alternating_training_learns_to_detect():
    """Trains the four steps on generated scenes and requires an AP50 above 0.8."""
    scene = lambda rng: micro.scene(rng, (12, 24))
    first, model = micro.make(0), micro.make(1)
    learn = lambda model, step: micro.train(model, scene, 100, losses_of=lambda *batch: step(*batch)[0])
    freeze(first.roi_heads)
    learn(first, RPNStep(first))
    freeze(model.rpn)
    learn(model, RegionsStep(model, first))
    last = copy.deepcopy(model).requires_grad_(True)
    freeze(last.roi_heads, last.backbone)
    learn(last, RPNStep(last))
    last.roi_heads.requires_grad_(True)
    freeze(last.rpn)
    learn(last, RegionsStep(last, None))
    rng = np.random.default_rng(99)
    assert micro.figures(last, [scene(rng) for _ in range(20)])["AP50"] > 0.8
