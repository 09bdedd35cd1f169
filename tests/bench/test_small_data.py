"""Tests `resdet bench small_data`: torchvision's recipe against torch's schedulers and torchvision's transforms, the
sampling of training images, and resuming an interrupted comparison."""

import json
from pathlib import Path

import pytest
import torch
from detection.formats.samples import coco, write

from resdet import hub
from resdet.bench import torchvision_recipe
from resdet.bench.recipe_rows import summary
from resdet.cli import main
from resdet.commands import small_data as command
from resdet.commands.small_data import Setting, experiment_of, small_data
from resdet.detection.data.sources import open_scenes
from resdet.detection.model import Detector
from resdet.errors import ConfigError, DataError

torchvision = pytest.importorskip("torchvision")
SIDE = 64
BOX = (10, 5, 30, 20)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Writes 20 training images, of which every fourth is empty and one has a crowd, and two validation images."""
    names = {i: f"{i}.png" for i in range(1, 21)}
    train = coco(names, [(i, 1 + i % 2, *BOX) for i in names if i % 4])
    train["annotations"][0]["iscrowd"] = 1
    val = coco({1: "a.png", 2: "b.png"}, [(1, 1, *BOX), (2, 2, *BOX)])
    files = {f"train/{name}": None for name in names.values()} | {"valid/a.png": None, "valid/b.png": None}
    annotations = {"train/_annotations.coco.json": train, "valid/_annotations.coco.json": val}
    return write(tmp_path / "data", files | annotations)


@pytest.fixture
def faked(monkeypatch):
    """Replaces both trainings with functions that return at once; returns the list of their calls and arguments."""
    calls = []

    def ours(experiment, folder):
        calls.append(("resdet", experiment.train.seed, len(open_scenes(experiment.data, "train"))))
        return {"steps": 4, "cpu_seconds": 7.5, "AP": 0.5, "AP50": 0.75, "AP75": 0.25 * experiment.train.seed}

    def peer(experiment, budget, lr):
        calls.append(("torchvision", experiment.train.seed, budget))
        return {"steps": 3, "cpu_seconds": 7.6, "AP": 0.25, "AP50": 0.25, "AP75": 0.5}

    monkeypatch.setattr(command, "train_ours", ours)
    monkeypatch.setattr(torchvision_recipe, "train", peer)
    return calls


def refused(*words, capsys) -> str:
    assert main(["bench", *map(str, words)]) == 2
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err and printed.out == ""
    return printed.err


def test_the_learning_rate_equals_torchs_schedulers():
    """Compares 260 steps with LinearLR over the first tenth and MultiStepLR, chained as in torchvision's references."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1e-3, total_iters=26)
    steps = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[160, 220])
    for step in range(260):
        assert torchvision_recipe.rate(step / 260) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        warm_up.step()
        steps.step()


@pytest.mark.parametrize("name, stride", [("resnet18", "3x3"), ("resnet50", "1x1")])
def test_both_backbones_compute_the_same_features(name, stride):
    words = (f"model.backbone.name={name}", f"model.backbone.stride_in={stride}", "model.num_classes=2")
    torch.manual_seed(0)
    model = hub.build("custom.yaml", *words, "model.box.width=8", "model.neck.width=8", expect=Detector)
    for key, value in model.backbone.named_buffers():
        if key.endswith(("norm.weight", "norm.running_var")):
            value.uniform_(0.5, 1.5)
    peer = torchvision_recipe.peer_of(model)
    assert peer.training and peer.roi_heads.box_predictor.cls_score.out_features == 3
    images = torch.rand(1, 3, SIDE, SIDE)
    with torch.inference_mode():
        theirs, ours = peer.backbone.body(images), model.backbone.eval().features(images)
    assert len(theirs) == len(ours) == 4
    for one, other in zip(theirs.values(), ours.values()):
        assert other.mean() > 0.01
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * other.max().item())


def test_samples_equal_those_of_torchvisions_references(folder):
    """Compares flips with torchvision's transform; checks that batches have no empty images and no crowd objects."""
    from torchvision.transforms import v2
    from torchvision.tv_tensors import BoundingBoxes

    data = open_scenes(experiment_of(Setting(str(folder), "none"), 0, folder).data, "train")
    image, target = torchvision_recipe.sample(data, 1)
    boxes = BoundingBoxes(target["boxes"], format="XYXY", canvas_size=image.shape[1:])
    assert image.dtype == torch.float32 and 0.5 < image.max() <= 1 and target["labels"].tolist() == [1]
    mirrored, mirrored_boxes = v2.RandomHorizontalFlip(1)(image, boxes)
    flipped, found = torchvision_recipe.flipped(image, target)
    assert torch.equal(flipped, mirrored) and torch.equal(found["boxes"], mirrored_boxes.as_subclass(torch.Tensor))

    drawn = torchvision_recipe.batches(data, 7)
    epoch = [target for _ in range(2) for target in next(drawn)[1]]
    assert len(epoch) == 14 and all(len(target["boxes"]) == 1 for target in epoch)
    lefts = {round(target["boxes"][0, 0].item()) for target in epoch}
    assert lefts == {BOX[0], 60 - BOX[0] - BOX[2]}


def test_the_share_of_images_depends_only_on_the_seed(folder, tmp_path):
    chosen = []
    for number, seed in enumerate((0, 0, 1)):
        (tmp_path / str(number)).mkdir()
        data = experiment_of(Setting(str(folder), "none", share=0.25), seed, tmp_path / str(number)).data
        train, val = open_scenes(data, "train"), open_scenes(data, "val")
        chosen.append({*train.files})
        assert len(train) == 5 and [*val.files] == ["a.png", "b.png"] and train.classes == ["cat", "dog"]
        assert all(Path(train.name(i)).is_file() for i in range(5))
    assert chosen[0] == chosen[1] != chosen[2]


def test_an_interrupted_comparison_is_resumed(folder, tmp_path, faked, monkeypatch, capsys):
    """Interrupts torchvision's second training: three rows are saved, and the next run adds only the fourth."""
    file, words = tmp_path / "rows.json", ["--data", str(folder), "--weights", "none", "--share", "0.5"]
    train, dies = torchvision_recipe.train, True

    def peer(experiment, *others):
        if experiment.train.seed == 2 and dies:
            raise MemoryError
        return train(experiment, *others)

    monkeypatch.setattr(torchvision_recipe, "train", peer)
    command = ["bench", "small_data", *words, "--json", str(file), "--seeds", "1", "2", "model.backbone=resnet18"]
    with pytest.raises(MemoryError):
        main(command)
    rows = json.loads(file.read_text())["rows"]
    assert [(row["seed"], row["side"]) for row in rows] == [(1, "resdet"), (1, "torchvision"), (2, "resdet")]
    assert faked == [("resdet", 1, 10), ("torchvision", 1, 7.5), ("resdet", 2, 10)]
    dies = False
    assert main(command) == 0
    table = capsys.readouterr().out.splitlines()[-6:]
    assert table[1].split() == ["1", "resdet", "10", "4", "7.5", "50.0", "75.0", "25.0"]
    assert table[-1].startswith("resdet - torchvision, mean of 2 seeds: AP +25.0 ± 0.0, AP50 +50.0 ± 0.0, AP75 -12.5")
    content = json.loads(file.read_text())
    assert content["rows"][:3] == rows and len(content["rows"]) == 4 and faked[3:] == [("torchvision", 2, 7.5)]
    assert {row["images"] for row in content["rows"]} == {10}
    assert content["summary"]["difference"] == pytest.approx({"AP": 0.25, "AP50": 0.5, "AP75": -0.125})
    assert content["setting"]["overrides"] == ["model.backbone=resnet18"]
    assert main([*command[:-1], "model.backbone=resnet34"]) == 2 and len(faked) == 4


def test_the_summary_averages_differences_over_seeds_with_both_sides():
    values = {"resdet": [0.5, 0.25, 0.75, 1.0], "torchvision": [0.25, 0.25, 0.25]}
    rows = [
        {"seed": seed, "side": side, "AP": value, "AP50": 1.0, "AP75": 0.0}
        for side, column in values.items()
        for seed, value in enumerate(column)
    ]
    found = summary(rows)
    assert found["seeds"] == [0, 1, 2]
    assert (found["resdet"]["AP"], found["torchvision"]["AP"], found["difference"]["AP"]) == (0.5, 0.25, 0.25)
    assert found["standard_error"]["AP"] == pytest.approx((2 * 0.25**2 / 2) ** 0.5 / 3**0.5)
    assert found["difference"]["AP50"] == 0 and "standard_error" not in summary(rows[:1] + rows[4:5])
    assert summary(rows[:4]) == {"seeds": []}


def test_json_files_of_other_comparisons_are_refused(folder, tmp_path, faked, capsys):
    file = tmp_path / "rows.json"
    words = ["small_data", "--data", folder, "--weights", "none", "--json", file]
    for content in ("[]", '{"cases": []}'):
        file.write_text(content)
        assert "not a file of this comparison" in refused(*words, capsys=capsys)
    file.unlink()
    small_data(Setting(str(folder), "none"), [0], str(file))
    capsys.readouterr()
    assert "steps was 80 and is 90" in refused(*words, "--steps", 90, capsys=capsys)


def test_invalid_settings_are_refused(folder, faked, capsys):
    words = ["small_data", "--data", folder, "--weights", "none"]
    assert "--data FOLDER --weights FILE" in refused(*words[:3], capsys=capsys)
    assert "runs alone" in refused("forward", *words, capsys=capsys)
    assert "--share is 1.5" in refused(*words, "--share", 1.5, capsys=capsys)
    assert "--steps is 0" in refused(*words, "--steps", 0, capsys=capsys)
    assert "x is not a seed" in refused(*words, "--seeds", 0, "x", capsys=capsys)
    assert "--share is for the suite small_data" in refused("ops", "--share", 0.5, capsys=capsys)
    assert "KEY=VALUE is for the suite small_data" in refused("ops", "--rounds", 1, "optim.lr=1", capsys=capsys)
    with pytest.raises(ConfigError, match="model.backbone is cifar_resnet8: .*resnet18, resnet34"):
        small_data(Setting(str(folder), "none", ["model.backbone=cifar_resnet8"]), [0])
    with pytest.raises(DataError, match="None of the 1 training images has objects"):
        for seed in range(100):
            small_data(Setting(str(folder), "none", share=0.05), [seed])
    assert all(images == 1 for side, _, images in faked if side == "resdet")


@pytest.mark.slow
def test_both_sides_train(folder, tmp_path):
    """Trains the smallest net for one step, and torchvision's for the same CPU time, from torchvision weights."""
    from torchvision.models import resnet18

    weights = tmp_path / "r18.pth"
    torch.save(resnet18(weights=None).state_dict(), weights)
    small = ["model.backbone=resnet18", "model.box.width=32", "model.neck.width=16", "train.batch=1"]
    content = small_data(Setting(str(folder), str(weights), small, steps=1, share=0.25, size=[SIDE, 96]), [0])
    ours, peer = content["rows"]
    assert (ours["side"], ours["steps"], peer["side"], peer["images"]) == ("resdet", 1, "torchvision", 5)
    assert 0 < ours["cpu_seconds"] and peer["cpu_seconds"] >= ours["cpu_seconds"] - 0.1 and peer["steps"] >= 1
    assert all(0 <= row[key] <= 1 for row in (ours, peer) for key in ("AP", "AP50", "AP75"))
