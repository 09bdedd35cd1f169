"""Provides narrow torchvision detectors to the tests of several benchmark suites."""

import pytest

CHANNELS = 64  # of the FPN and the heads


@pytest.fixture(scope="module")
def narrow_heads():
    """Makes torchvision build its FPN and heads with 64 channels instead of 256 and 1024."""
    pytest.importorskip("torchvision")
    from torchvision.models.detection import backbone_utils, faster_rcnn, mask_rcnn

    with pytest.MonkeyPatch.context() as patch:
        heads, predictor = mask_rcnn.MaskRCNNHeads, mask_rcnn.MaskRCNNPredictor
        pyramid, mlp, boxes = backbone_utils.BackboneWithFPN, faster_rcnn.TwoMLPHead, faster_rcnn.FastRCNNPredictor
        patch.setattr(
            backbone_utils,
            "BackboneWithFPN",
            lambda body, layers, given, width, **more: pyramid(body, layers, given, CHANNELS, **more),
        )
        patch.setattr(faster_rcnn, "TwoMLPHead", lambda given, width: mlp(given, CHANNELS))
        patch.setattr(faster_rcnn, "FastRCNNPredictor", lambda width, classes: boxes(CHANNELS, classes))
        patch.setattr(
            mask_rcnn, "MaskRCNNHeads", lambda given, layers, dilation: heads(given, [CHANNELS] * 4, dilation)
        )
        patch.setattr(
            mask_rcnn, "MaskRCNNPredictor", lambda given, width, classes: predictor(CHANNELS, CHANNELS, classes)
        )
        yield
