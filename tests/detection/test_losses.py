"""Losses and their gradients compared with torchvision's, for the same weights, images, objects and samples."""

from dataclasses import replace

import pytest
import torch
from detection.heads import twins
from torch import Tensor, nn

from resdet.detection.heads import roi_heads as region_module
from resdet.detection.heads import rpn as rpn_module
from resdet.detection.inference.predictor import pad
from resdet.detection.model import Detector
from resdet.structures import Images, Targets
from resdet.weights.layouts import torchvision_detectors

pytest.importorskip("torchvision")

NAMES = {  # torchvision's -> resdet's
    "loss_objectness": "rpn_objectness",
    "loss_rpn_box_reg": "rpn_box",
    "loss_classifier": "class",
    "loss_box_reg": "box",
    "loss_mask": "mask",
}
SIZES = [(160, 224), (160, 190)]  # not resized; the second is padded
COUNTS = [5, 2]
MASK_SIZE = 112


def pair(masks: bool, **options) -> tuple[nn.Module, Detector]:
    """Returns both models in training mode; torchvision's norms are frozen, as resdet's always are."""
    theirs = twins.spread_out(twins.narrow(masks, **options), twins.floats(twins.pictures(SIZES[0]))[0])
    ours = twins.ours(theirs)
    for layer in (theirs.roi_heads.box_predictor.bbox_pred, ours.roi_heads.stages[0].predictor.boxes):
        layer.weight.data *= 0.3  # otherwise the box loss outweighs all others
    return theirs.train(), ours.train()


def batch(seed: int = 0) -> tuple[list[Tensor], Images, Targets, list[dict[str, Tensor]]]:
    images = twins.pictures(*SIZES, seed=seed)
    targets, theirs = twins.objects(SIZES, COUNTS, places=3, mask_size=MASK_SIZE, seed=seed)
    return twins.floats(images), pad([image.permute(1, 2, 0) for image in images], 32), targets, theirs


class Drawn:
    """Replaces torchvision's sampler and returns resdet's samples, given as masks of the candidates."""

    def __init__(self, positive: list[Tensor], negative: list[Tensor]):
        self.choice = positive, negative

    def __call__(self, labels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        for chosen, matched in zip(self.choice[0], labels):
            assert (matched[chosen.bool()] > 0).all()  # resdet's positives are torchvision's
        for chosen, matched in zip(self.choice[1], labels):
            assert (matched[chosen.bool()] == 0).all()
        return self.choice


def as_masks(indices: Tensor, chosen: Tensor, counts: list[int]) -> list[Tensor]:
    masks = [torch.zeros(count, dtype=torch.uint8) for count in counts]
    for mask, places, real in zip(masks, indices, chosen):
        mask[places[real]] = 1
    return masks


@pytest.fixture
def drawn(monkeypatch) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Records resdet's samples (indices, positive, valid) of "rpn" and of "regions" by name."""
    found = {}
    for name, module in (("rpn", rpn_module), ("regions", region_module)):

        def remember(*arguments, name=name, real=module.sample):
            found[name] = real(*arguments)
            return found[name]

        monkeypatch.setattr(module, "sample", remember)
    return found


def give(theirs: nn.Module, ours: Detector, drawn: dict, images: Images) -> None:
    """Makes torchvision's two samplers return resdet's samples."""
    with torch.no_grad():
        output = ours.rpn(ours.maps(images), images.pixels.shape[2:])
        proposed = ours.rpn.propose(output, images.sizes, training=True).valid
    anchors = sum(map(len, output.anchors))
    indices, positive, valid = drawn["rpn"]
    theirs.rpn.fg_bg_sampler = Drawn(
        as_masks(indices, positive, [anchors] * len(indices)),
        as_masks(indices, valid & ~positive, [anchors] * len(indices)),
    )
    # resdet has places for proposals and then for objects; torchvision has only the real ones of both.
    indices, positive, valid = drawn["regions"]
    real = proposed.sum(1, keepdim=True)
    indices = torch.where(indices < proposed.shape[1], indices, indices - proposed.shape[1] + real)
    counts = [count + objects for count, objects in zip(real[:, 0].tolist(), COUNTS)]
    theirs.roi_heads.fg_bg_sampler = Drawn(
        as_masks(indices, positive, counts), as_masks(indices, valid & ~positive, counts)
    )


def compare(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == {NAMES[name] for name in expected}
    for name, loss in expected.items():
        tolerance = 0.02 if name == "loss_mask" else 1e-4
        assert found[NAMES[name]].item() == pytest.approx(loss.item(), rel=tolerance), name
        assert loss > 1e-3, name


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """Returns the gradients of all parameters, with zeros where the loss does not depend on one."""
    names, parameters = zip(*[(n, p) for n, p in model.named_parameters() if p.requires_grad])
    found = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
    return {n: torch.zeros_like(p) if g is None else g for n, p, g in zip(names, parameters, found)}


def compare_gradients(ours: Detector, found: Tensor, theirs: nn.Module, expected: Tensor, tolerance: float) -> None:
    wanted = torchvision_detectors.to_our_names(gradients(theirs, expected))
    mine = gradients(ours, found)
    assert mine.keys() == {n for n in wanted if not n.startswith("normalize.")}
    for name, gradient in mine.items():
        error = (gradient - wanted[name]).norm() / wanted[name].norm().clamp(min=1e-4)
        assert error < tolerance, (name, error)


@pytest.mark.parametrize("masks", [False, True], ids=["boxes", "masks"])
def test_losses_of_a_random_sample(masks, drawn):
    """Both models learn from the 256 anchors and 512 regions per image that resdet's samplers draw."""
    theirs, ours = pair(masks)
    pictures, images, targets, objects = batch()
    torch.manual_seed(1)
    found = ours.losses(images, targets if masks else targets._replace(masks=None))
    give(theirs, ours, drawn, images)
    expected = theirs(pictures, objects)
    compare(found, expected)
    ordinary = [name for name in NAMES if name != "loss_mask"]
    mine, other = sum(found[NAMES[name]] for name in ordinary), sum(expected[name] for name in ordinary)
    compare_gradients(ours, mine, theirs, other, 5e-3)
    if masks:
        compare_gradients(ours, found["mask"], theirs, expected["loss_mask"], 0.05)


def test_losses_of_all_candidates():
    """Samples include every candidate, so both models learn from the same ones."""
    theirs, ours = pair(True, rpn_batch_size_per_image=40_000, box_batch_size_per_image=8000, box_positive_fraction=0.5)
    ours.rpn.config = replace(ours.rpn.config, batch_per_image=40_000)
    ours.roi_heads.config = replace(ours.roi_heads.config, batch_per_image=8000, positive_fraction=0.5)
    ours.roi_heads.positives = 4000
    branch = ours.roi_heads.branches["mask"]
    branch.config, branch.positives = replace(branch.config, regions=500), 4000
    sizes = [(160, 224), (160, 224)]  # otherwise torchvision also learns from anchors in the padding, unlike resdet
    images = twins.pictures(*sizes)
    targets, objects = twins.objects(sizes, COUNTS, mask_size=MASK_SIZE)
    compare(
        ours.losses(pad([image.permute(1, 2, 0) for image in images], 32), targets),
        theirs(twins.floats(images), objects),
    )


@pytest.mark.parametrize("masks", [False, True], ids=["boxes", "masks"])
def test_validation_losses_are_training_losses(masks):
    """Losses are equal in both modes, with and without gradients, for the same random numbers."""
    _, ours = pair(masks)
    _, images, targets, _ = batch()
    values = []
    for training, grad in ((True, True), (False, True), (False, False)):
        ours.train(training)
        torch.manual_seed(3)
        with torch.set_grad_enabled(grad):
            values.append({name: loss.item() for name, loss in ours.losses(images, targets).items()})
        assert ours.training is training
    assert values[0] == values[1] == values[2]


def test_losses_under_bfloat16_are_close_and_float32():
    _, ours = pair(True)
    ours.rpn.config = replace(ours.rpn.config, batch_per_image=40_000)
    _, images, targets, _ = batch()
    with torch.no_grad():
        expected = ours.losses(images, targets)["rpn_objectness"]
    with torch.autocast("cpu", torch.bfloat16):
        losses = ours.losses(images, targets)
    sum(losses.values()).backward()
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    assert losses["rpn_objectness"].item() == pytest.approx(expected.item(), rel=0.02)
    assert all(p.grad.isfinite().all() for p in ours.parameters() if p.grad is not None)
