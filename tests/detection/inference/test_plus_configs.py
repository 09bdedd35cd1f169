"""The configs of appendix B: how they differ, and how VOC's models start from COCO's weights."""

import pytest
import torch

import resdet
from resdet import config, weights
from resdet.errors import WeightsError

KEYS = ("model", "eval", "train", "data", "optim", "schedule")
ROWS = {  # rows of Table 9
    ("coco_r101", "coco_r101_context"): {"model.box.context"},
    ("coco_r101_context", "coco_r101_plus"): {"eval.refine", "eval.scales", "eval.nms", "train.evaluate_every"},
    ("voc_r101", "voc_r101_context"): {"model.box.context"},
    ("voc_r101_context", "voc_r101_plus"): {
        *("eval.refine", "eval.scales", "eval.nms", "train.evaluate_every", "model.rpn.anchors.sizes")
    },
}


@pytest.mark.parametrize("before, after", ROWS)
def test_each_config_changes_the_settings_of_its_row(before, after):
    first, second = (config.to_dict(config.load(name)) for name in (before, after))
    assert set(config.differences(first, second)) - {"name"} == ROWS[before, after]


def test_the_papers_settings():
    for name in ("coco_r101_plus", "voc_r101_plus"):
        settings = config.load(name).eval
        assert settings.refine and list(settings.scales) == [200, 400, 600, 800, 1000] and not settings.plain
        assert (settings.nms, settings.voting_iou) == (0.3, 0.5)
    assert config.load("coco_r101_context").eval.plain


def narrow(name: str, *overrides: str):
    """Builds a shipped detector with a smaller backbone."""
    return resdet.build(f"{name}.yaml", "model.backbone={name: resnet18, norm: frozen}", *overrides)


def test_voc_loads_coco_weights_except_the_predictor():
    coco, voc = narrow("coco_r101_plus"), narrow("voc_r101_plus")
    before = {name: tensor.clone() for name, tensor in voc.state_dict().items()}
    report = weights.load(voc, coco.state_dict(), new_classifier=True)  # as `--init` does
    predictor = "roi_heads.stages.0.predictor"
    anew = {f"{predictor}.{layer}.{kind}" for layer in ("scores", "boxes") for kind in ("weight", "bias")}
    assert {line.split()[0] for line in report.mismatched} == anew and not report.missing and not report.unexpected
    for name, tensor in voc.state_dict().items():
        expected = before[name] if name in anew else coco.state_dict()[name]
        assert torch.equal(tensor, expected), name


def test_an_rpn_with_other_anchors_is_refused():
    with pytest.raises(WeightsError, match="rpn.objectness.weight"):
        weights.load(narrow("voc_r101"), narrow("coco_r101").state_dict(), new_classifier=True)
