"""Tests mixup and CutMix against torchvision, given the same mixing ratio and box."""

import pytest
import torch
from scipy.stats import beta, kstest
from torchvision.transforms import v2

from resdet import config
from resdet.classification.data import mix
from resdet.classification.training import ClassificationTraining
from resdet.engine.distributed import World
from resdet.engine.log import Log
from resdet.structures import Batch


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(5, 3, 20, 30, generator=generator)
    return images, torch.nn.functional.one_hot(torch.tensor([3, 0, 1, 1, 2]), 4).float()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_blend_matches_torchvisions_mixup(batch, share):
    images, targets = batch
    theirs = v2.MixUp(num_classes=4)
    wanted = [theirs.transform(x, {"labels": targets, "batch_size": 5, "lam": share}) for x in (images, targets)]
    torch.testing.assert_close(mix.blend(images, targets, share), tuple(wanted))


@pytest.mark.parametrize("box", [(0, 0, 30, 20), (4, 2, 19, 11), (7, 7, 7, 7)])
def test_paste_matches_torchvisions_cutmix(batch, box):
    images, targets = batch
    theirs = v2.CutMix(num_classes=4)
    share = 1 - (box[2] - box[0]) * (box[3] - box[1]) / 600
    params = {"labels": targets, "batch_size": 5, "box": box, "lam_adjusted": share}
    wanted = [theirs.transform(x, params) for x in (images, targets)]
    torch.testing.assert_close(mix.paste(images, targets, box), tuple(wanted))


def test_shares_follow_the_beta_distribution():
    for alpha in (0.2, 1.0):
        source = generator()
        shares = [mix.draw_share(alpha, source) for _ in range(1500)]
        assert kstest(shares, beta(alpha, alpha).cdf).pvalue > 0.005


def test_unclipped_boxes_have_the_drawn_area():
    source = generator()
    boxes = torch.tensor([mix.draw_box(0.84, 300, 200, source) for _ in range(500)])
    sides = boxes[:, 2:] - boxes[:, :2]
    inside = ((boxes[:, :2] > 0) & (boxes[:, 2:] < torch.tensor([300, 200]))).all(1)
    assert abs(inside.float().mean() - 0.36) < 0.08  # centers within the middle 0.6 of each side are not clipped
    assert (sides[inside] == torch.tensor([120, 80])).all()  # 0.4 of each side: 0.16 of the area
    assert (boxes >= 0).all() and (boxes[:, 2:] <= torch.tensor([300, 200])).all() and (sides >= 0).all()
    x1, y1, x2, y2 = mix.draw_box(1.0, 300, 200, source)
    assert x1 == x2 and y1 == y2


def test_mixed_targets_sum_to_one_and_inputs_are_not_modified(batch):
    images, targets = batch
    before = images.clone(), targets.clone()
    for seed in range(20):
        _, mixed = mix.mix(images, targets, 0.2, 1.0, generator(seed))
        torch.testing.assert_close(mixed.sum(1), torch.ones(5))
    torch.testing.assert_close((images, targets), before)


def test_pasted_shares_are_those_of_the_pixels(batch):
    images, targets = batch
    pasted = torch.zeros(20, 30, dtype=torch.bool)
    for seed in range(40):
        mixed, blended = mix.mix(images, targets, 0.0, 1.0, generator(seed))
        kept = (mixed == images).all(1)[0]
        share = kept.float().mean()
        torch.testing.assert_close(blended, share * targets + (1 - share) * targets.roll(1, 0))
        pasted |= ~kept
    assert pasted.all()


def test_mix_selects_mixup_or_cutmix_by_alpha(batch):
    images, targets = batch
    assert mix.mix(images, targets, 0.0, 0.0, generator())[0] is images

    def pasted(mixed):
        return ((mixed == images) | (mixed == images.roll(1, 0))).all().item()

    assert all(pasted(mix.mix(images, targets, 0.0, 1.0, generator(seed))[0]) for seed in range(10))
    assert not any(pasted(mix.mix(images, targets, 1.0, 0.0, generator(seed))[0]) for seed in range(10))
    both = sum(pasted(mix.mix(images, targets, 1.0, 1.0, generator(seed))[0]) for seed in range(200))
    assert 70 < both < 130


@pytest.mark.parametrize("alphas", [(1.0, 0.0), (0.0, 1.0)])
def test_copies_of_repeated_augmentation_are_mixed_with_another_image(alphas):
    """Checks with `data.repeats` that each target mixes two images."""
    words = ["data.size=16", "data.short=16", "data.augment.short=[16,16]", "data.repeats=3", "data.workers=0"]
    words += [f"data.augment.{key}={alpha}" for key, alpha in zip(("mixup", "cutmix"), alphas)]
    words += ["train.batch=6", "model.backbone=cifar_resnet20", "data.train_images=20", "data.val_images=2"]
    experiment = config.load("shapes_r18.yaml", *words)
    training = ClassificationTraining(experiment, World(0, 1, torch.device("cpu")), Log(None))
    labels = torch.tensor([1, 1, 1, 7, 7, 7])
    noise = torch.rand(6, 3, 16, 16, generator=generator())
    shares = []
    for step in range(10):
        _, targets = training.inputs(Batch(noise, labels, torch.arange(6)), step)
        shares.append(share := float(targets[0, 1]))
        wanted = torch.zeros(6, 10)
        wanted[:3, 1] = wanted[3:, 7] = share
        wanted[:3, 7] = wanted[3:, 1] = 1 - share
        torch.testing.assert_close(targets, wanted)
    assert min(shares) < 0.9


def test_results_depend_only_on_the_generator(batch):
    for seed in range(5):
        torch.manual_seed(seed)
        first = mix.mix(*batch, 0.2, 1.0, generator(seed))
        torch.testing.assert_close(first, mix.mix(*batch, 0.2, 1.0, generator(seed)), rtol=0, atol=0)


def test_mixing_reads_no_value_from_the_device(batch):
    """Mixes tensors on the meta device, where reading a value raises an error."""
    images, targets = (x.to("meta") for x in batch)
    for seed in range(10):
        mixed, blended = mix.mix(images, targets, 0.2, 1.0, generator(seed))
        assert mixed.shape == images.shape and blended.shape == targets.shape
