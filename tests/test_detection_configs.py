"""Tests the shipped detection configs: the model matches the name and the header gives command, results and cost."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from tasks.runs import here, sentence

import resdet
from resdet import config
from resdet.errors import ConfigError

PREFIXES = ("coco", "voc", "ilsvrc_det", "ilsvrc_vid", "custom", "shapes_mask")
NAMES = [name for name in config.shipped() if name.startswith(PREFIXES)]
EXPECTED = """coco_r50_c4 coco_r101 coco_r50_fpn coco_r101_fpn coco_r50_fpn_3x coco_r101_fpn_3x coco_mask_r50_c4
coco_mask_r50_fpn coco_mask_r101_fpn coco_mask_r50_fpn_3x coco_mask_r101_fpn_3x coco_cascade_r50_fpn
coco_cascade_mask_r50_fpn coco_mask_modern voc_r101 voc_vgg16 ilsvrc_det_r101 ilsvrc_vid_r101 shapes_mask_r18_fpn
custom""".split()

# Classes and parameters of torchvision's detectors, from its documentation, less the background's box and mask
# outputs, which only torchvision has.
PUBLISHED = {
    "coco_r50_fpn": (90, 41755286 - 4 * 1025),
    "coco_mask_r50_fpn": (90, 44401393 - 4 * 1025 - 257),
    "coco_keypoint_r50_fpn": (1, 59137258 - 4 * 1025),
}


def build(name, *overrides):
    """Builds the model on the meta device, with 20 classes if the config leaves the number to the data."""
    experiment = config.load(name, *overrides)
    experiment.model.num_classes = experiment.model.num_classes or 20
    with torch.device("meta"):
        return resdet.build(experiment)


def test_expected_configs_are_shipped():
    assert set(EXPECTED) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_header(name):
    header = [line for line in config.find(name).read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    for part in ("command", "expected", "cost"):
        assert any(re.match(rf"#   {part} +\S", line) for line in header), part


@pytest.mark.parametrize("name", NAMES)
def test_printed_config_round_trips(name, tmp_path):
    """Loads the output of `resdet config` as a config and compares the experiments."""
    done = here("config", "--config", f"{name}.yaml")
    assert done.returncode == 0, done.stderr
    printed = yaml.safe_load(done.stdout)
    assert printed["task"] == "detection" and printed["name"] == name and printed["model"]["rpn"]["anchors"]
    (tmp_path / f"{name}.yaml").write_text(done.stdout)
    assert config.to_yaml(config.load(tmp_path / f"{name}.yaml")) == done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_model_matches_config_name(name):
    model = build(name)
    assert model.draws_masks == ("mask" in name or "mnc" in name)
    assert model.draws_keypoints == ("keypoint" in name)
    assert (len(model.roi_heads.stages) == 3) == ("cascade" in name)
    features = [level for level in ("c4", "dc5", "fpn") if name.endswith(level) or f"_{level}_" in name]
    assert all(model.experiment["model"]["features"] == level for level in features)
    depth = re.search(r"_(?:r|vgg)(\d+)", name)
    if depth:
        assert model.experiment["model"]["backbone"]["name"].endswith(depth[1])
    blocks = {"r50": 6, "r101": 23}
    if depth and f"r{depth[1]}" in blocks:
        assert len(model.backbone.conv4_x) == blocks[f"r{depth[1]}"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_match_torchvision(name):
    classes, parameters = PUBLISHED[name]
    model = build(name, f"model.num_classes={classes}", "model.backbone.norm=bn")
    count = sum(parameter.numel() for parameter in model.parameters())
    norms = 2 * sum(m.num_features for m in model.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d))
    assert count - norms == parameters


def test_quickstart_detector_runs():
    """Builds the quickstart detector at full size and runs it on a random image."""
    model = resdet.build("shapes_mask_r18_fpn.yaml", "model.num_classes=5").eval()
    with torch.no_grad():
        detections = model(torch.randint(256, (1, 3, 64, 64)).to(torch.uint8))
    assert detections.boxes.shape[0] == 1 and detections.boxes.shape[2] == 4


PAPER = {  # appendix A of the paper and its result tables
    "coco_r101": {
        "train.batch": 8,
        "train.length": 320000,
        "optim.lr": 0.001,
        "schedule.milestones": [240000],
        "model.box.beta": 1.0,  # Fast R-CNN, equation 3, with targets normalized to unit variance
        "model.rpn.beta": 1 / 9,
        "eval.batch": 1,
    },
    "coco_vgg16": {"model.box.beta": 1.0, "model.rpn.beta": 1 / 9, "model.box.resolution": 7, "eval.batch": 1},
    "coco_mnc_r101": {"model.box.beta": 1.0, "eval.batch": 1},
    "voc_r101": {
        "model.num_classes": 20,
        "eval.metric": "voc07",
        "data.train_sets": ["2007_trainval", "2012_trainval"],
    },
    "ilsvrc_det_r101": {"model.num_classes": 200, "eval.metric": "ilsvrc_det", "data.val": "val2"},
    "ilsvrc_vid_r101": {  # the baseline of MEGA
        "model.num_classes": 30,
        "eval.metric": "ilsvrc_vid",
        "data.val": "val",
        "data.frames_per_video": 15,
        "optim.lr": 0.001,
        "train.length": 120000,
        "train.batch": 4,
        "schedule.milestones": [80000],
    },
    "coco_r50_fpn_3x": {"train.length": 270000, "schedule.milestones": [210000, 250000], "train.batch": 16},
}


@pytest.mark.parametrize("name", PAPER)
def test_settings_match_the_papers(name):
    experiment = config.to_dict(config.load(name))
    for key, value in PAPER[name].items():
        found = experiment
        for part in key.split("."):
            found = found[part]
        assert config.plain(found) == value, key


def test_custom_config_comments_its_keys():
    lines = config.find("custom").read_text(encoding="utf-8").splitlines()
    for key in ("num_classes", "pretrained", "freeze_stages", "features", "mask", "flip", "lr", "batch", "patience"):
        (line,) = [line for line in lines if re.match(rf" *(optim: {{)?{key}:", line)]
        assert "#" in line, key


@pytest.mark.parametrize("place", ["configs/custom.yaml", "docs/detection.md"])
def test_documented_timm_backbone_settings(place):
    """Builds a timm backbone with the keys that the config comment or the page documents beside timm/."""
    pytest.importorskip("timm")
    text = (Path(__file__).parents[1] / place).read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if "model.backbone=timm/NAME" in line]
    told = re.findall(r"model\.(?:freeze_stages|pretrained|backbone\.pretrained)=\w+", line)
    assert told[:2] == ["model.pretrained=null", "model.backbone.pretrained=true"]
    words = ["custom.yaml", "model.num_classes=3", "model.backbone=timm/convnext_atto"]
    assert config.load(*words, *told).model.pretrained is None
    model = resdet.build(*words, *told[:1])  # without the key that downloads weights
    assert {parameter.requires_grad for parameter in model.backbone.parameters()} == {True}
    with pytest.raises(ConfigError, match="model.freeze_stages is 2"):
        resdet.build(*words, "model.freeze_stages=2")


WRONG = {
    "model.rpn.pos_nms=[1,1]": "did you mean post_nms",
    "model.box.iou=[0.5]": "did you mean ious",
    "model.mask.withd=3": "did you mean width",
    "data.augment.flipp=1": "did you mean flip",
    "data.train.image=x": "did you mean images",
    "eval.metrik=coco": "did you mean metric",
    "model.box.ious=[]": "model.box.ious",
    "model.box.ious=[0.5,0.6]": "model.box.class_agnostic",
    "model.box.positive_fraction=2": "model.box.positive_fraction",
    "model.mnc={}": "model.mnc is set and model.features is fpn",
    "model.rpn.nms=-1": "model.rpn.nms",
    "model.input.min_size=0": "model.input.min_size",
    "model.features=c6": "model.features",
    "model.features=vgg": "model.features",
    "data.augment.short=[]": "data.augment.short",
    "data.augment.flip=2": "data.augment.flip",
    "data.on_bad_image=ignore": "on_bad_image",
    "data.name=cocoo": "did you mean coco",
    "eval.score=2": "eval.score",
    "alternating={rpn: {milestones: [2, 1]}}": "alternating.*.milestones is [2.0, 1.0]",
    "eval.batch=0": "eval.batch",
    "train.batch=many": "train.batch",
}


@pytest.mark.parametrize("override", WRONG)
def test_invalid_settings_print_one_line(override):
    line = sentence(here("config", "--config", "coco_mask_r50_fpn.yaml", override))
    assert WRONG[override] in line and line.endswith((".", "?")) and len(line) < 400


OUT_OF_RANGE = {
    "coco_mask_r50_fpn": [
        *("model.rpn.beta=-1", "model.rpn.convs=0", "model.rpn.channels=0"),
        *("model.box.nms=50", "model.box.score=5", "model.box.beta=-1", "model.box.resolution=0"),
        *("model.box.convs=-1", "model.box.conv_width=0", "model.box.linears=-1", "model.box.width=0"),
        *("model.mask.width=0", "model.mask.convs=-1", "model.mask.sampling=-1", "model.neck.width=0"),
        *("eval.score=1", "eval.score=-0.1", "eval.nms=2", "model.box.score=1"),
    ],
    "coco_keypoint_r50_fpn": ["model.keypoint.convs=-1", "model.keypoint.sampling=-1"],
    "imagenet_loc_r101": ["model.rpn.beta=-1"],
    "imagenet_loc_rcnn_r101": ["model.beta=-1"],
}


@pytest.mark.parametrize("name, override", [(name, word) for name, words in OUT_OF_RANGE.items() for word in words])
def test_values_out_of_range_are_refused(name, override):
    with pytest.raises(ConfigError, match=override.partition("=")[0] + " is .*: give "):
        config.load(name, override)
