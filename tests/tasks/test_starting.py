"""Tests the weights that a detector can start from and the messages about mismatched ones."""

import json
import re

import pytest
import torch
import torchvision
from narrow import TRUE, narrow_resnets
from safetensors.torch import save_file
from tasks import runs
from weights.test_keras import in_keras_s_dress

import resdet
from resdet.backbones import create

pytestmark = pytest.mark.usefixtures("narrow")

ONE_STEP = ["train.length=1", "train.evaluate_every=1", "train.checkpoint_every=1", "model.mask=null"]
STILL = ["optim.lr=1e-30", "model.backbone.norm=frozen", "model.neck.norm=null"]  # keeps the weights unchanged


@pytest.fixture(scope="module")
def classifier(module_folder):
    """Trains a resdet ResNet-18 on generated images, with the paper's per-pixel mean; returns the checkpoint."""
    out = module_folder("classifier") / "run"
    words = ["data.train_images=16", "data.val_images=8", "data.size=32", "data.short=36", "data.augment.short=[36,48]"]
    words += ["data.workers=0", "train.batch=8", "train.unit=steps", "train.length=1", "train.precision=fp32"]
    words += ["data.mean=per_pixel", "model.backbone=resnet18", "schedule.warmup=0"]
    runs.train(out, "--config", "shapes_r18.yaml", *words)
    return out / "best.pth"


def start(root, out, *words):
    return runs.train(out, *runs.of(root), *ONE_STEP, *words)


def weights(run):
    return runs.checkpoint(run / "best.pth")["model"]


def test_init_from_a_resdet_classifier(root, tmp_path, classifier):
    done = start(root, tmp_path / "run", *STILL, "--init", classifier)
    assert "best.pth: " in done.stderr and "(resdet layout)" in done.stderr
    given, found = runs.checkpoint(classifier)["model"], weights(tmp_path / "run")
    same = [name for name in given if name.startswith("backbone.conv") and not name.endswith("num_batches_tracked")]
    assert len(same) > 90 and all(torch.equal(found[name], given[name]) for name in same)
    assert given["normalize.mean"].shape == (3, 32, 32)
    torch.testing.assert_close(found["normalize.mean"], given["normalize.mean"].mean((1, 2), keepdim=True))


def test_init_from_a_torchvision_state_dict(root, tmp_path):
    torch.manual_seed(0)
    net = torchvision.models.resnet18()
    torch.save(net.state_dict(), tmp_path / "resnet18.pth")
    with narrow_resnets(TRUE):
        done = start(root, tmp_path / "run", *STILL, "--init", tmp_path / "resnet18.pth")
        model = resdet.load(tmp_path / "run/best.pth")
    assert "(torchvision layout)" in done.stderr
    images = torch.randint(256, (1, 3, 64, 64), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    reference = torchvision.models._utils.IntermediateLayerGetter(net.eval(), {"layer2": "c3", "layer4": "c5"})
    with torch.no_grad():
        normalized = model.normalize(images)
        expected, found = reference(normalized), model.backbone.features(normalized)
    for level in ("c3", "c5"):
        torch.testing.assert_close(found[level], expected[level], rtol=1e-4, atol=1e-4)


def test_init_from_a_keras_file(root, tmp_path):
    """Checks the weights and the pixel mean of the Keras layout; stride_in=3x3 is refused."""
    torch.manual_seed(0)
    net = create("resnet50", num_classes=7, stride_in="1x1")
    save_file(in_keras_s_dress(net), tmp_path / "keras.safetensors")
    words = [*STILL, "model.backbone.name=resnet50", "--init", tmp_path / "keras.safetensors"]
    refused = runs.here(
        "train", *runs.of(root), *ONE_STEP, "--out", tmp_path / "x", "model.backbone.stride_in=3x3", *words
    )
    assert "model.backbone.stride_in=1x1" in runs.sentence(refused)
    done = start(root, tmp_path / "run", "model.backbone.stride_in=1x1", *words)
    assert "(keras layout)" in done.stderr
    found = weights(tmp_path / "run")
    assert torch.equal(found["backbone.conv5_x.2.conv3.conv.weight"], net.conv5_x[2].conv3.conv.weight)
    assert found["normalize.mean"].flatten().tolist() == pytest.approx([123.68, 116.779, 103.939])


def test_init_from_a_detector_of_other_classes(root, tmp_path):
    """Checks that class-dependent tensors are reinitialized and listed, and that all others are loaded."""
    content = json.loads((root / "annotations/train.json").read_text())
    one = {entry["id"]: content["categories"][0]["id"] for entry in content["categories"]}
    content["categories"] = [content["categories"][0] | {"name": "thing"}]
    for entry in content["annotations"]:
        entry["category_id"] = one[entry["category_id"]]
    (tmp_path / "one.json").write_text(json.dumps(content))
    masks = "model.mask={width: 16, convs: 1, regions: 4}"
    data = [f"data.{s}={{images: train, annotations: {tmp_path}/one.json}}" for s in ("train", "val")]
    start(root, tmp_path / "one", *STILL, masks, *data)
    done = start(root, tmp_path / "five", *STILL, masks, "--init", tmp_path / "one/best.pth", "train.seed=1")
    listed = done.stderr.partition("of another shape: ")[2].splitlines()[0]
    names = set(re.findall(r"(\S+) \[[\d, ]+\] for \[[\d, ]+\]", listed))
    predictor = "roi_heads.stages.0.predictor"
    anew = {f"{layer}.{kind}" for layer in (f"{predictor}.scores", f"{predictor}.boxes") for kind in ("weight", "bias")}
    assert names == anew | {"roi_heads.mask_head.masks.weight", "roi_heads.mask_head.masks.bias"}
    before, after = weights(tmp_path / "one"), weights(tmp_path / "five")
    assert before.keys() == after.keys()
    for name in before.keys() - names:
        torch.testing.assert_close(before[name], after[name], rtol=0, atol=1e-25)
    assert after[f"{predictor}.scores.bias"].shape == (6,)


MISFITS = {
    "another net": ["model.backbone.name=resnet34"],
    "another head": ["model.box.width=16"],
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_mismatched_weights_are_refused(root, tmp_path, misfit):
    start(root, tmp_path / "run", *STILL)
    words = [*runs.of(root), *ONE_STEP, *STILL, *MISFITS[misfit], "--init", tmp_path / "run/best.pth"]
    line = runs.sentence(runs.here("train", *words, "--out", tmp_path / "other"))
    assert "does not fit" in line and ("backbone.conv" in line or "roi_heads.stages.0.head" in line)


def test_a_classifier_refuses_detector_weights(root, tmp_path):
    start(root, tmp_path / "run", *STILL)
    words = ["--config", "shapes_r18.yaml", "model.backbone=resnet18", "--init", tmp_path / "run/best.pth"]
    assert "contains a detector" in runs.sentence(runs.here("train", *words, "--out", tmp_path / "other"))


def test_pretrained_from_a_file(root, tmp_path, classifier):
    """Checks that model.pretrained loads a file like --init, and that --init takes precedence."""
    by_key = start(root, tmp_path / "key", *STILL, f"model.pretrained={classifier}")
    assert "tensors loaded (resdet layout)" in by_key.stderr
    name = "backbone.conv4_x.0.conv1.conv.weight"
    assert torch.equal(weights(tmp_path / "key")[name], runs.checkpoint(classifier)["model"][name])
    missing = runs.here("train", *runs.of(root), "model.pretrained=none.pth", "--out", tmp_path / "none")
    assert "none.pth" in runs.sentence(missing)
    done = start(root, tmp_path / "init", *STILL, "model.pretrained=none.pth", "--init", classifier)
    assert "none.pth" not in done.stderr


def test_model_pretrained_is_read_only_at_the_start_of_training(root, tmp_path, classifier):
    """Checks that --eval-only and --resume do not read the file of model.pretrained, which is missing here."""
    start(root, tmp_path / "run", f"model.pretrained={classifier}")
    gone = [*runs.of(root), "model.mask=null", "model.pretrained=none.pth"]
    judged = runs.here("train", *gone, "--init", tmp_path / "run/best.pth", "--eval-only")
    assert judged.returncode == 0, judged.stderr
    resumed = runs.here("train", *gone, "train.length=2", "--out", tmp_path / "run", "--resume")
    assert resumed.returncode == 0, resumed.stderr


def test_ema_starts_from_the_pretrained_weights(root, tmp_path, classifier):
    """Checks that the averaged weights do not include the random initialization."""
    start(root, tmp_path / "run", *STILL, "train.ema=0.9", f"model.pretrained={classifier}")
    name = "backbone.conv4_x.0.conv1.conv.weight"
    given = runs.checkpoint(classifier)["model"][name]
    torch.testing.assert_close(weights(tmp_path / "run")[name], given, rtol=0, atol=1e-6)
