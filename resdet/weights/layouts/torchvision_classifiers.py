"""torchvision's and timm's ResNets and VGGs: names, and the settings they imply.

Their ResNets share one layout, have the shortcuts of option B and stride in the 3×3. timm's VGGs have fc6 and fc7 as
convolutions. A net whose tensors are those of a ResNet and that computes something else (timm's resnetaa50 and
resnetblur50, which smooth before they stride) cannot be told from one.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from resdet.errors import WeightsError
from resdet.images.statistics import IMAGENET_MEAN, IMAGENET_STD
from resdet.weights.layouts import names

BOTTLENECK_BLOCKS = {(3, 4, 6, 3): "resnet50", (3, 4, 23, 3): "resnet101", (3, 8, 36, 3): "resnet152"}
BASIC_BLOCKS = {(2, 2, 2, 2): "resnet18", (3, 4, 6, 3): "resnet34"}
VGG_DEPTHS = {13: 16, 16: 19}  # by the number of convolutions
TIMM_VGG = {"fc6": "pre_logits.fc1", "fc7": "pre_logits.fc2", "fc": "head.fc"}


def is_resnet(state: Mapping[str, Tensor]) -> bool:
    return "layer1.0.conv1.weight" in state


def is_vgg(state: Mapping[str, Tensor]) -> bool:
    return "features.0.weight" in state and ("classifier.0.weight" in state or is_timm_vgg(state))


def is_timm_vgg(state: Mapping[str, Tensor]) -> bool:
    return "pre_logits.fc1.weight" in state


def blocks_per_stage(ours: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Of a ResNet's tensors under our names."""
    return tuple(len({name.split(".")[1] for name in ours if name.startswith(f"conv{n}_x.")}) for n in range(2, 6))


def resnet_to_our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {names.resnet_from_torchvision(name): t for name, t in state.items()} | imagenet_statistics()


def resnet_settings(state: Mapping[str, Tensor], origin: str) -> dict:
    """The `model` section of a config that the weights fit."""
    backbone = {"name": resnet_name(resnet_to_our_names(state), origin), "shortcut": "B", "stride_in": "3x3"}
    return {"backbone": backbone, "num_classes": len(state["fc.bias"]) if "fc.bias" in state else 0}


def resnet_name(ours: Mapping[str, Tensor], origin: str) -> str:
    """Which ResNet tensors under our names are of, by the number of its blocks."""
    counts = blocks_per_stage(ours)
    name = (BOTTLENECK_BLOCKS if "conv2_x.0.conv3.conv.weight" in ours else BASIC_BLOCKS).get(counts)
    if name is None:
        raise WeightsError(f"{origin}: a residual net of {counts} blocks is none of ResNet-18, 34, 50, 101 and 152.")
    return name


def vgg_to_our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    theirs = vgg_modules(vgg_depth(state), "features.1.running_mean" in state, is_timm_vgg(state))
    ours = names.rename_modules(dict(state), {name: mine for mine, name in theirs.items()})
    for name in ("fc6.weight", "fc7.weight"):
        if name in ours:
            ours[name] = ours[name].flatten(1)
    return ours | imagenet_statistics()


def vgg_settings(state: Mapping[str, Tensor], origin: str) -> dict:
    norm = "bn" if "features.1.running_mean" in state else None
    last = "head.fc.bias" if is_timm_vgg(state) else "classifier.6.bias"
    return {
        "backbone": {"name": f"vgg{vgg_depth(state)}", "norm": norm},
        "num_classes": len(state[last]) if last in state else 0,
    }


def vgg_depth(state: Mapping[str, Tensor]) -> int:
    convolutions = sum(name.startswith("features.") and t.dim() == 4 for name, t in state.items())
    if convolutions not in VGG_DEPTHS:
        raise WeightsError(f"a VGG of {convolutions} convolutions is none of ours: VGG-16 has 13 and VGG-19 has 16.")
    return VGG_DEPTHS[convolutions]


def vgg_modules(depth: int, batch_norm: bool, timm: bool) -> dict[str, str]:
    return names.vgg_names(depth, batch_norm) | (TIMM_VGG if timm else {})


def imagenet_statistics() -> dict[str, Tensor]:
    """Neither library keeps them with the tensors; what both train and publish is normalized by these."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return {"normalize.mean": mean, "normalize.std": std}


def name_of(net: nn.Module) -> str:
    """What torchvision and timm call a net of ours."""
    own = net.state_dict()
    if "conv1_x.0.conv.weight" not in own:
        return resnet_name(own, "This model")
    return f"vgg{depth_of_vgg(own)}{'_bn' if 'conv1_x.0.norm.weight' in own else ''}"


def depth_of_vgg(own: Mapping[str, Tensor]) -> int:
    return 19 if "conv3_x.4.conv.weight" in own else 16


def from_our_names(model: nn.Module, library: str) -> dict[str, Tensor]:
    """What `library` loads with strict=True; a net that it does not have is refused."""
    net = getattr(model, "backbone", model)
    own = {name: tensor.detach() for name, tensor in net.state_dict().items()}
    # Frozen norms have no counter of steps, and torchvision asks for one.
    means = [name for name in own if name.endswith("running_mean")]
    own = {name.replace("running_mean", "num_batches_tracked"): torch.tensor(0) for name in means} | own
    if "conv1_x.0.conv.weight" in own:
        return from_our_vgg(own, library == "timm")
    refuse_other_resnets(net, own, library)
    return {names.resnet_to_torchvision(name): tensor for name, tensor in own.items()}


def from_our_vgg(own: Mapping[str, Tensor], timm: bool) -> dict[str, Tensor]:
    theirs = names.rename_modules(dict(own), vgg_modules(depth_of_vgg(own), "conv1_x.0.norm.weight" in own, timm))
    for name, kernel in (("pre_logits.fc1.weight", 7), ("pre_logits.fc2.weight", 1)):
        if name in theirs:
            theirs[name] = theirs[name].unflatten(1, (-1, kernel, kernel))
    return theirs


def refuse_other_resnets(net: nn.Module, own: Mapping[str, Tensor], library: str) -> None:
    """A file that loads there and computes something else is worse than none."""
    option_b = "conv5_x.0.shortcut.conv.weight" in own and "conv5_x.1.shortcut.conv.weight" not in own
    dilated = any(max(module.dilation) > 1 for module in net.modules() if isinstance(module, nn.Conv2d))
    reasons = {
        "have no such net (plain, for CIFAR, or of shortcuts A or C)": not option_b,
        "stride in the 3×3, and this one in the 1×1 (model.backbone.stride_in)": stride_in(net) == "1x1",
        "have batch norm, and this one none (model.backbone.norm)": "conv1.norm.running_mean" not in own,
        "do not dilate conv5_x, as this one does (model.features)": dilated,
    }
    for reason, holds in reasons.items():
        if holds:
            raise WeightsError(f"{library}'s ResNets {reason}: save it as safetensors.")


def stride_in(net: nn.Module) -> str | None:
    """Which convolution of a net's bottlenecks strides, "1x1" or "3x3"; None where there are no bottlenecks."""
    block = getattr(net, "conv3_x", [None])[0]
    if not hasattr(block, "conv3"):
        return None
    return "1x1" if block.conv1.conv.stride == (2, 2) else "3x3"
