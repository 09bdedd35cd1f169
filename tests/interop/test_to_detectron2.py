"""Tests the config written for detectron2; test_detectron2_parity.py in tests/weights builds models from it."""

import pytest
import yaml

from resdet import config as configs
from resdet.errors import ConfigError
from resdet.hub import build_for
from resdet.interop.detectron2_config import translate
from resdet.interop.to_detectron2 import config_for

SECTIONS = {
    "fpn": {"features": "fpn", "backbone": {"name": "resnet18"}},
    "masks": {"backbone": {"name": "resnet18", "norm": "frozen"}, "mask": {"convs": 2}, "freeze_stages": 2},
    "keypoints": {"backbone": {"name": "resnet18"}, "keypoint": {"convs": 2, "width": 32, "aligned": False}},
    "cascade": {"backbone": {"name": "resnet18"}, "box": {"ious": [0.5, 0.6], "class_agnostic": True}},
    "pool": {
        "backbone": {"name": "resnet50", "stride_in": "1x1"},
        "features": "c4",
        "box": {"pool": "max"},
        "input": {"divisor": 1},
    },
    "rpn": {
        "backbone": {"name": "resnet18"},
        "rpn": {"convs": 2, "inside_only": True, "anchors": {"ratios": [0.3, 1.0]}},
    },
}


def model(section: dict):
    settings = {"fpn": {"width": 16}, "num_classes": 3} | section
    if settings.get("features") != "c4":
        settings["box"] = {"width": 16} | section.get("box", {})
    return build_for(configs.from_dict({"task": "detection", "data": {"name": "coco"}, "model": settings}), "abc")


@pytest.mark.parametrize("name", SECTIONS)
def test_config_round_trips(name, tmp_path):
    detector = model(SECTIONS[name])
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump(config_for(detector)))
    found = translate(path)
    back = configs.to_dict(configs.from_dict(found.settings))["model"]
    expected = detector.experiment["model"] | {"num_classes": 3}
    expected["input"] = expected["input"] | {"resize": "pillow"}
    expected["rpn"] = expected["rpn"] | {"min_size": 1e-6}
    for branch in ("mask", "keypoint"):
        if expected[branch]:
            expected[branch] = expected[branch] | {"regions": 128}  # all positives: a quarter of 512
    assert configs.differences(expected, back) == {}
    assert {entry.split(":")[0] for entry in found.left_out} == {"MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD"}


@pytest.mark.parametrize(
    "section, word",
    [
        ({"backbone": {"name": "plain18"}}, "no plain18"),
        (
            {"backbone": {"name": "resnet18"}, "keypoint": {"norm": "gn", "convs": 1, "width": 32}},
            "no model.keypoint.norm",
        ),
        ({"backbone": {"name": "resnet18"}, "features": "dc5"}, "use fpn"),
        ({"backbone": {"name": "resnet18"}, "rpn": {"anchors": {"style": "torchvision"}}}, "anchors.style"),
        (
            {"backbone": {"name": "resnet18"}, "box": {"canonical": 112.0}},
            "no model.box.canonical_size=112",
        ),
    ],
)
def test_unsupported_settings_are_refused(section, word):
    with pytest.raises(ConfigError, match=word):
        config_for(model(section))


def test_the_number_of_keypoints_is_that_of_the_model():
    detector = model({"backbone": {"name": "resnet18"}, "keypoint": {"convs": 1, "width": 32, "names": ["a", "b"]}})
    assert config_for(detector)["MODEL"]["ROI_KEYPOINT_HEAD"]["NUM_KEYPOINTS"] == 2
