"""Inference of ResNet-50 on a batch: library defaults, equal precisions, and resdet's fast path."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from resdet.bench.nets import COMPILED, EAGER, classifier, each, fast_path, inference, normalizer, pixels, resnet50s
from resdet.timing import Case, Side

BATCH, SIZE = 8, 224
TOLERANCE = 1e-4


def cases(batch: int = BATCH, size: int = SIZE, device: str = "cpu") -> Iterator[Case]:
    """Yields nets on normalized pixels, and resdet's whole classifier with normalization (defaults and fast path).

    Outputs are compared on the CPU, since GPU convolutions use TF32.
    """
    nets = each(resnet50s(), nn.Module.eval)
    images = pixels(batch, size)
    normalized = normalizer()(images)
    plain = each(nets, lambda net: inference(partial(net, normalized.contiguous())))
    note = f"same weights: outputs agree to {check_agreement(plain):.0e} of the largest"

    nets = each(nets, lambda net: net.to(device))
    images, normalized = images.to(device), normalized.to(device)
    contiguous = normalized.contiguous()
    plain = each(nets, lambda net: inference(partial(net, contiguous)))
    model = classifier(nets["resdet"], size).to(device).eval()
    yield Case("defaults (eager, fp32)", batch, {**plain, "resdet": inference(partial(model, images))}, note)

    for variant in (variant.on(device) for variant in (*EAGER, *COMPILED)):
        torch.compiler.reset()
        sides = each(nets, lambda net: inference(partial(variant.prepare(net), normalized), variant))
        yield Case(str(variant), batch, sides)

    fast = fast_path(classifier(nets["resdet"], size).to(device), device)
    yield Case("resdet's fast path, peers' defaults", batch, {**plain, "resdet": inference(partial(fast, images))})


def check_agreement(sides: dict[str, Side]) -> float:
    """Returns the largest difference from torchvision's float32 outputs, relative to the largest output."""
    outputs: dict[str, Any] = {name: side() for name, side in sides.items() if callable(side)}
    expected = outputs["torchvision"]
    largest = max((output - expected).abs().max() / expected.abs().max() for output in outputs.values()).item()
    if not largest < TOLERANCE:
        raise RuntimeError(f"The outputs of nets with the same weights differ by {largest:.1e}.")
    return largest
