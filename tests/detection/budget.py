"""The cost of a training step of each family, counted without computing it.

    python tests/detection/budget.py     rewrites budget.json after an intended change

Counts the forward pass of two images of 800 × 1344 on a fake GPU: operations, FLOPs of convolutions and matrix
products, bytes written by operations, and bytes kept for the backward pass.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from detection.no_sync import batch_on_device, on_device  # noqa: E402

from resdet import hub  # noqa: E402
from resdet.structures import Images, Targets  # noqa: E402

FILE = Path(__file__).with_suffix(".json")
BATCH, HEIGHT, WIDTH, OBJECTS, MASK = 2, 800, 1344, 32, 56
CONFIGS = ("coco_r50_fpn.yaml", "coco_mask_r50_fpn.yaml", "coco_r50_c4.yaml", "coco_cascade_mask_r50_fpn.yaml")


class Written(TorchDispatchMode):
    """Counts the operations that create a tensor, and its bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.operations += 1
            self.bytes += sum(bytes_of(leaf) for leaf in tree_leaves(result) if isinstance(leaf, Tensor))
        return result


def bytes_of(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def measure(config: str) -> dict[str, float]:
    """Returns the cost of the losses of a config's detector."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage.nbytes()
        return tensor

    with torch.device("meta"):
        built = hub.build(config, "model.num_classes=80", "model.pretrained=null")
    with FakeTensorMode():
        model = on_device(built).train()
        weights = {p.untyped_storage()._cdata for p in (*model.parameters(), *model.buffers())}
        images, targets = batch_on_device(*batch(model.draws_masks))
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            with FlopCounterMode(display=False) as flops, Written() as written:
                losses = model.losses(images, targets)
                sum(losses.values())
        saved = sum(size for storage, size in kept.items() if storage not in weights)
    return {
        "operations": written.operations,
        "GFLOP": flops.get_total_flops() / 1e9,
        "MB written": written.bytes / 1e6,
        "MB kept": saved / 1e6,
    }


def batch(masks: bool) -> tuple[Images, Targets]:
    shape = (BATCH, OBJECTS)
    pixels = torch.empty(BATCH, 3, HEIGHT, WIDTH, dtype=torch.uint8)
    flags = torch.empty(shape, dtype=torch.bool)
    targets = Targets(
        torch.empty(*shape, 4),
        torch.empty(shape, dtype=torch.int64),
        flags,
        flags,
        torch.empty(*shape, MASK, MASK, dtype=torch.uint8) if masks else None,
    )
    return Images(pixels, torch.empty(BATCH, 2)), targets


if __name__ == "__main__":
    rounded = lambda costs: {name: round(value, 1) for name, value in costs.items()}
    FILE.write_text(json.dumps({config: rounded(measure(config)) for config in CONFIGS}, indent=1) + "\n")
