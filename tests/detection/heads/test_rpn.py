"""The region proposal network: proposals compared with torchvision's, losses with those of the sampled anchors."""

import pytest
import torch
from detection.heads import twins
from torch import Tensor
from torch.nn import functional as F

from resdet.detection.heads import rpn as module
from resdet.detection.heads.config import AnchorConfig, RPNConfig, positive_count
from resdet.detection.heads.rpn import RPN

pytest.importorskip("torchvision")

CHANNELS = 16
SHAPES = [(40, 56), (20, 28), (10, 14), (5, 7), (3, 4)]
STRIDES = [4, 8, 16, 32, 64]
IMAGE = (160, 224)
SIZES = torch.tensor([[160.0, 224.0], [131.0, 97.0]])  # the second image is padded


def maps() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, CHANNELS, *shape, generator=generator) for shape in SHAPES]


def make(**options) -> RPN:
    torch.manual_seed(0)
    config = RPNConfig(anchors=AnchorConfig(style="torchvision"), **options)
    rpn = RPN(config, CHANNELS, STRIDES, [[32], [64], [128], [256], [512]])
    for layer, std in ((rpn.convs[0], 0.1), (rpn.objectness, 0.5), (rpn.deltas, 0.1)):
        torch.nn.init.normal_(layer.weight, std=std)
        torch.nn.init.normal_(layer.bias, std=std)
    return rpn


def theirs(ours: RPN) -> torch.nn.Module:
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead

    generator = AnchorGenerator(((32,), (64,), (128,), (256,), (512,)), ((0.5, 1.0, 2.0),) * 5)
    head = RPNHead(CHANNELS, 3)
    for mine, layer in (
        (ours.convs[0], head.conv[0][0]),
        (ours.objectness, head.cls_logits),
        (ours.deltas, head.bbox_pred),
    ):
        layer.load_state_dict(mine.state_dict())
    config = ours.config
    pre, post = ({"training": c[0], "testing": c[1]} for c in (config.pre_nms, config.post_nms))
    return RegionProposalNetwork(generator, head, 0.7, 0.3, config.batch_per_image, 0.5, pre, post, config.nms)


@torch.no_grad()
def their_proposals(ours: RPN, training: bool) -> tuple[list[Tensor], list[Tensor]]:
    """Returns boxes and scores of each image; RegionProposalNetwork.forward returns no scores."""
    from torchvision.models.detection.image_list import ImageList
    from torchvision.models.detection.rpn import concat_box_prediction_layers

    other, features = theirs(ours).train(training), maps()
    images = ImageList(torch.zeros(2, 3, *IMAGE), [tuple(map(int, size)) for size in SIZES.tolist()])
    logits, deltas = other.head(features)
    counts = [level[0].numel() for level in logits]
    scores, shifts = concat_box_prediction_layers(logits, deltas)
    boxes = other.box_coder.decode(shifts, other.anchor_generator(images, features)).view(2, -1, 4)
    return other.filter_proposals(boxes, scores, images.image_sizes, counts)


@pytest.mark.parametrize("count, fraction", [(256, 0.5), (10, 0.25), (15, 0.5), (7, 0.9)])
def test_the_most_positive_anchors_are_those_of_torchvision(count, fraction):
    from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

    positive, _ = BalancedPositiveNegativeSampler(count, fraction)([torch.ones(1000)])
    assert positive_count(RPNConfig(batch_per_image=count, positive_fraction=fraction)) == positive[0].sum()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("counts", [{}, {"pre_nms": [150, 90], "post_nms": [120, 70], "nms": 0.5}])
def test_proposals_equal_torchvision(training, counts):
    rpn = make(**counts)
    with torch.no_grad():
        found = rpn.propose(rpn(maps(), IMAGE), SIZES, training)
    assert found.valid.shape == (2, rpn.config.post_nms[0 if training else 1])
    boxes, scores = their_proposals(rpn, training)
    for i in range(2):
        count = len(boxes[i])
        assert count > 60
        assert found.valid[i].tolist() == [True] * count + [False] * (found.valid.shape[1] - count)
        assert torch.allclose(found.boxes[i, :count], boxes[i], atol=1e-3)
        assert torch.allclose(found.scores[i, :count].sigmoid(), scores[i], atol=1e-6)


def test_proposals_stay_in_their_image_and_small_ones_are_dropped():
    rpn = make(min_size=16.0)
    with torch.no_grad():
        found = rpn.propose(rpn(maps(), IMAGE), SIZES, training=False)
    assert found.valid.any(1).all()
    for i, (height, width) in enumerate(SIZES.tolist()):
        kept = found.boxes[i][found.valid[i]]
        assert kept.min() >= 0 and kept[:, 2].max() <= width and kept[:, 3].max() <= height
        assert (kept[:, 2:] - kept[:, :2]).min() >= 16


def test_nan_and_infinite_outputs_propose_nothing():
    rpn = make()
    with torch.no_grad():
        output = rpn(maps(), IMAGE)
        output.logits[0][0] = float("nan")
        output.deltas[1][0] = float("inf")
        found = rpn.propose(output, SIZES, training=True)
    assert found.boxes[found.valid].isfinite().all() and found.scores[found.valid].isfinite().all()


@pytest.fixture
def drawn(monkeypatch) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Records the samples of the losses, one entry per call: indices, positive, valid."""
    found, real = [], module.sample

    def remember(*arguments):
        found.append(real(*arguments))
        return found[-1]

    monkeypatch.setattr(module, "sample", remember)
    return found


def test_losses_are_those_of_the_sampled_anchors(drawn):
    """Computes Faster R-CNN's equation 1 anchor by anchor."""
    rpn = make(batch_per_image=64)
    targets, _ = twins.objects([IMAGE, (131, 97)], [4, 2], places=2)
    output = rpn(maps(), IMAGE)
    losses = rpn.losses(output, targets, SIZES)
    indices, positive, valid = drawn[0]
    assert valid.all() and positive.any(1).all() and positive.sum() < 64

    anchors, logits, deltas = torch.cat(output.anchors), torch.cat(output.logits, 1), torch.cat(output.deltas, 1)
    scores = shifts = 0.0
    for i in range(2):
        objects = targets.boxes[i][targets.valid[i]]
        for index, is_object in zip(indices[i].tolist(), positive[i].tolist()):
            scores = scores + F.softplus(-logits[i, index] if is_object else logits[i, index])
            if is_object:
                shifts = shifts + smooth_l1(deltas[i, index], wanted(anchors[index], objects))
    assert torch.allclose(losses["rpn_objectness"], scores / 128, rtol=1e-4)
    assert torch.allclose(losses["rpn_box"], shifts / 128, rtol=1e-4)


def wanted(anchor: Tensor, objects: Tensor) -> Tensor:
    """Returns Faster R-CNN's box parameters for the object with the largest overlap."""
    from torchvision.ops import box_iou

    box = objects[box_iou(anchor[None], objects)[0].argmax()]
    size, other = anchor[2:] - anchor[:2], box[2:] - box[:2]
    return torch.cat([((box[2:] + box[:2]) - (anchor[2:] + anchor[:2])) / 2 / size, (other / size).log()])


def smooth_l1(found: Tensor, wanted: Tensor, beta: float = 1 / 9) -> Tensor:
    error = (found - wanted).abs()
    return torch.where(error < beta, 0.5 * error**2 / beta, error - 0.5 * beta).sum()


@pytest.mark.parametrize("inside_only", [False, True])
def test_only_anchors_in_the_image_are_sampled(drawn, inside_only):
    """Skips anchors centered in the padding, and with `inside_only` those across the border (Faster R-CNN)."""
    targets, _ = twins.objects([IMAGE, (131, 97)], [2, 2])
    rpn = make(batch_per_image=4000, inside_only=inside_only)
    output = rpn(maps(), IMAGE)
    rpn.losses(output, targets, SIZES)
    indices, _, valid = drawn[0]
    for i, (height, width) in enumerate(SIZES.tolist()):
        low, high = torch.cat(output.anchors)[indices[i]][valid[i]].split(2, 1)
        if not inside_only:
            low = high = (low + high) / 2
        assert len(low) > 50 and low.min() >= 0
        assert high[:, 0].max() <= width and high[:, 1].max() <= height


@pytest.mark.parametrize(
    "inside_only, usable", [(False, [True, True, True, True, False]), (True, [False, True, True, False, False])]
)
def test_borders_belong_to_the_image(inside_only, usable):
    """Places anchors around both corners of an image, and the same ones in an unreadable image of no size."""
    sides = [[-8.0, -8, 8, 8], [0, 0, 16, 16], [84, 44, 100, 60], [92, 52, 108, 68], [94, 52, 110, 68]]
    found = make(inside_only=inside_only).usable(torch.tensor(sides), torch.tensor([[60.0, 100], [0, 0]]))
    assert found.tolist() == [usable, [False] * 5]


def test_several_convolutions():
    rpn = RPN(RPNConfig(convs=2, channels=5), CHANNELS, STRIDES, [[32, 64]] * 5)
    output = rpn(maps(), IMAGE)
    assert [tuple(conv.weight.shape[:2]) for conv in rpn.convs] == [(5, CHANNELS), (5, 5)]
    assert [tuple(level.shape) for level in output.deltas] == [(2, h * w * 6, 4) for h, w in SHAPES]
