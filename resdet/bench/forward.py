"""Inference of ResNet-50 on a batch: the defaults of each library, the same precision in each, and our fast path."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from resdet.bench.nets import COMPILED, EAGER, Variant, classifier, each, normalizer, pixels, resnet50s
from resdet.fast import accelerate
from resdet.timing import Case, Side

BATCH, SIZE = 8, 224
TOLERANCE = 1e-4


def cases(batch: int = BATCH, size: int = SIZE) -> Iterator[Case]:
    """Peers are given normalized pixels, and so is our net where like is compared with like; where our whole
    classifier runs (its default and the fast path), its time includes the normalization.
    """
    nets = each(resnet50s(), nn.Module.eval)
    images = pixels(batch, size)
    normalized = normalizer()(images)
    contiguous = normalized.contiguous()

    plain = each(nets, lambda net: inference(net, contiguous))
    note = f"same weights: outputs agree to {check_agreement(plain):.0e} of the largest"
    ours = inference(classifier(nets["resdet"], size).eval(), images)
    yield Case("defaults (eager, fp32)", batch, {**plain, "resdet": ours}, note)

    for variant in (*EAGER, *COMPILED):
        torch.compiler.reset()
        sides = each(nets, lambda net: inference(variant.prepare(net), normalized, variant))
        yield Case(str(variant), batch, sides)

    fast = inference(accelerate(classifier(nets["resdet"], size)), images)
    yield Case("resdet's fast path, peers' defaults", batch, {**plain, "resdet": fast})


def inference(net: nn.Module, images: Tensor, variant: Variant = EAGER[0]) -> Callable[[], Tensor]:
    @torch.inference_mode()
    def run() -> Tensor:
        with variant.autocast():
            return net(images)

    return run


def check_agreement(sides: dict[str, Side]) -> float:
    """The largest difference to torchvision's float32 outputs, as a share of the largest of them."""
    outputs = {name: side() for name, side in sides.items() if callable(side)}
    expected = outputs["torchvision"]
    largest = max((output - expected).abs().max() / expected.abs().max() for output in outputs.values()).item()
    if not largest < TOLERANCE:
        raise RuntimeError(f"The nets with the same weights give outputs that differ by {largest:.1e}.")
    return largest
