"""State dicts with the names and shapes of detectron2's model zoo, for nets of any width."""

import torch
from torch import Tensor

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
NORM_KEYS = {
    "frozen": ("weight", "bias", "running_mean", "running_var"),
    "sync": ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"),
    "gn": ("weight", "bias"),
}


def unit(name: str, shape: tuple[int, ...], norm: str | None) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a convolution with a norm or a bias."""
    if norm is None:
        return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    keys = {f"{name}.norm.{key}": () if "num" in key else shape[:1] for key in NORM_KEYS[norm]}
    return {f"{name}.weight": shape, **keys}


def layer(name: str, *shape: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def net(prefix: str, depth: int, stem: int, norm: str, last: str) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the stem and res2 to res5; `last` is the prefix of res5."""
    shapes = unit(f"{prefix}stem.conv1", (stem, 3, 7, 7), norm)
    given = stem
    for stage, count in enumerate(BLOCKS[depth]):
        inner = stem * 2**stage
        out = inner if depth < 50 else 4 * inner
        for block in range(count):
            name = f"{last if stage == 3 else f'{prefix}res{stage + 2}'}.{block}"
            if given != out:
                shapes |= unit(f"{name}.shortcut", (out, given, 1, 1), norm)
            if depth < 50:
                shapes |= unit(f"{name}.conv1", (out, given, 3, 3), norm) | unit(
                    f"{name}.conv2", (out, out, 3, 3), norm
                )
            else:
                shapes |= unit(f"{name}.conv1", (inner, given, 1, 1), norm)
                shapes |= unit(f"{name}.conv2", (inner, inner, 3, 3), norm)
                shapes |= unit(f"{name}.conv3", (out, inner, 1, 1), norm)
            given = out
    return shapes


def shapes(
    features: str,
    depth: int = 50,
    masks: bool = False,
    cascade: bool = False,
    stem: int = 64,
    width: int = 256,
    linear: int = 1024,
    classes: int = 80,
    norm: str = "frozen",
    head_norm: str | None = None,
    rpn_convs: int = 1,
) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of Base-RCNN-C4, -DilatedC5 or -FPN; `head_norm` selects a box head of 4 convs and 1 FC."""
    prefix = "backbone.bottom_up." if features == "fpn" else "backbone."
    found = net(prefix, depth, stem, norm, "roi_heads.res5" if features == "c4" else f"{prefix}res5")
    top = 8 * stem * (1 if depth < 50 else 4)
    channels = {"fpn": width, "c4": top // 2, "dc5": top}[features]
    if features == "fpn":
        for level in range(2, 6):
            found |= unit(f"backbone.fpn_lateral{level}", (width, top >> (5 - level), 1, 1), head_norm)
            found |= unit(f"backbone.fpn_output{level}", (width, width, 3, 3), head_norm)
    rpn, anchors = "proposal_generator.rpn_head", 3 if features == "fpn" else 15
    for conv in range(rpn_convs):
        name = f"{rpn}.conv.conv{conv}" if rpn_convs > 1 else f"{rpn}.conv"
        found |= layer(name, channels, channels, 3, 3)
    found |= layer(f"{rpn}.objectness_logits", anchors, channels, 1, 1)
    found |= layer(f"{rpn}.anchor_deltas", 4 * anchors, channels, 1, 1)
    for stage in ("0.", "1.", "2.") if cascade else ("",):
        box, predictor, last = f"roi_heads.box_head.{stage}", f"roi_heads.box_predictor.{stage}", channels
        if features != "c4":
            for conv in range(1, 5 if head_norm else 1):
                found |= unit(f"{box}conv{conv}", (width, last, 3, 3), head_norm)
                last = width
            found |= layer(f"{box}fc1", linear, 49 * last)
            if not head_norm:
                found |= layer(f"{box}fc2", linear, linear)
        vector = top if features == "c4" else linear
        found |= layer(f"{predictor}cls_score", classes + 1, vector)
        found |= layer(f"{predictor}bbox_pred", 4 if cascade else 4 * classes, vector)
    if masks:
        last = top if features == "c4" else channels
        for conv in range(1, 1 if features == "c4" else 5):
            found |= unit(f"roi_heads.mask_head.mask_fcn{conv}", (width, last, 3, 3), head_norm)
            last = width
        found |= {"roi_heads.mask_head.deconv.weight": (last, width, 2, 2), "roi_heads.mask_head.deconv.bias": (width,)}
        found |= layer("roi_heads.mask_head.predictor", classes, width, 1, 1)
    return found


def filled(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """Returns tensors with random values; variances are positive, and num_batches_tracked is 7."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
        else:
            values = torch.rand if name.endswith("running_var") else torch.randn
            state[name] = values(*shape, generator=generator)
    return state


def empty(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Returns meta tensors of these shapes."""
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
