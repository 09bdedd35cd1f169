"""torchvision's and timm's ResNets and VGGs: tensor names and implied settings.

Both libraries' ResNets share one layout, use shortcuts of option B and stride in the 3×3. timm's VGGs have fc6 and fc7
as convolutions. Nets with the tensors of a ResNet but another computation (timm's resnetaa50 and resnetblur50, which
smooth before the stride) cannot be distinguished.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from resdet.backbones.vgg import CONVOLUTIONS
from resdet.errors import WeightsError
from resdet.images.statistics import IMAGENET_MEAN, IMAGENET_STD
from resdet.weights.layouts import names

VGG_DEPTHS = {sum(counts): depth for depth, counts in CONVOLUTIONS.items()}  # number of convolutions -> depth
TIMM_VGG = {"fc6": "pre_logits.fc1", "fc7": "pre_logits.fc2", "fc": "head.fc"}


def is_resnet(state: Mapping[str, Tensor]) -> bool:
    return "layer1.0.conv1.weight" in state


def is_vgg(state: Mapping[str, Tensor]) -> bool:
    return "features.0.weight" in state and ("classifier.0.weight" in state or is_timm_vgg(state))


def is_timm_vgg(state: Mapping[str, Tensor]) -> bool:
    return "pre_logits.fc1.weight" in state


def resnet_to_our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {names.resnet_from_torchvision(name): t for name, t in state.items()} | imagenet_statistics()


def resnet_settings(state: Mapping[str, Tensor], origin: str) -> dict:
    """Returns the `model` section of a config that fits the weights."""
    backbone = {"name": resnet_name(resnet_to_our_names(state), origin), "shortcut": "B", "stride_in": "3x3"}
    return {"backbone": backbone, "num_classes": len(state["fc.bias"]) if "fc.bias" in state else 0}


def resnet_name(tensors: Mapping[str, Tensor], origin: str) -> str:
    """Returns the name of the ResNet, from the numbers of blocks; `tensors`: under resdet's names."""
    blocks = (len({name.split(".")[1] for name in tensors if name.startswith(f"conv{n}_x.")}) for n in range(2, 6))
    return names.resnet_name(tuple(blocks), "conv2_x.0.conv3.conv.weight" in tensors, origin)


def vgg_to_our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    modules = vgg_modules(vgg_depth(state), "features.1.running_mean" in state, is_timm_vgg(state))
    converted = names.rename_modules(dict(state), {name: module for module, name in modules.items()})
    for name in ("fc6.weight", "fc7.weight"):
        if name in converted:
            converted[name] = converted[name].flatten(1)
    return converted | imagenet_statistics()


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
        raise WeightsError(f"a VGG of {convolutions} convolutions is not supported: give VGG-16 (13) or VGG-19 (16).")
    return VGG_DEPTHS[convolutions]


def vgg_modules(depth: int, batch_norm: bool, timm: bool) -> dict[str, str]:
    return names.vgg_names(depth, batch_norm) | (TIMM_VGG if timm else {})


def imagenet_statistics() -> dict[str, Tensor]:
    """Returns the pixel statistics of both libraries' training, which their files do not contain."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return {"normalize.mean": mean, "normalize.std": std}


def name_of(net: nn.Module) -> str:
    """Returns torchvision's and timm's name of a backbone."""
    state = net.state_dict()
    if "conv1_x.0.conv.weight" not in state:
        return resnet_name(state, "This model")
    return f"vgg{depth_of_vgg(state)}{'_bn' if 'conv1_x.0.norm.weight' in state else ''}"


def depth_of_vgg(tensors: Mapping[str, Tensor]) -> int:
    return 19 if "conv3_x.4.conv.weight" in tensors else 16


def from_our_names(model: nn.Module, library: str) -> dict[str, Tensor]:
    """Returns a state dict that `library` loads with strict=True; raises a WeightsError for a net that it lacks."""
    net = getattr(model, "backbone", model)
    tensors = {name: tensor.detach() for name, tensor in net.state_dict().items()}
    # torchvision expects a step counter, which frozen norms lack.
    means = [name for name in tensors if name.endswith("running_mean")]
    tensors = {name.replace("running_mean", "num_batches_tracked"): torch.tensor(0) for name in means} | tensors
    if "conv1_x.0.conv.weight" in tensors:
        return from_our_vgg(tensors, library == "timm")
    refuse_other_resnets(net, tensors, library)
    return {names.resnet_to_torchvision(name): tensor for name, tensor in tensors.items()}


def from_our_vgg(tensors: Mapping[str, Tensor], timm: bool) -> dict[str, Tensor]:
    modules = vgg_modules(depth_of_vgg(tensors), "conv1_x.0.norm.weight" in tensors, timm)
    state = names.rename_modules(dict(tensors), modules)
    for name, kernel in (("pre_logits.fc1.weight", 7), ("pre_logits.fc2.weight", 1)):
        if name in state:
            state[name] = state[name].unflatten(1, (-1, kernel, kernel))
    return state


def refuse_other_resnets(net: nn.Module, tensors: Mapping[str, Tensor], library: str) -> None:
    """Refuses nets whose weights would load in `library` but compute other outputs."""
    option_b = "conv5_x.0.shortcut.conv.weight" in tensors and "conv5_x.1.shortcut.conv.weight" not in tensors
    dilated = any(max(module.dilation) > 1 for module in net.modules() if isinstance(module, nn.Conv2d))
    reasons = {
        "include no such net (plain, for CIFAR, or with shortcuts A or C)": not option_b,
        "stride in the 3×3, but this model in the 1×1 (model.backbone.stride_in)": stride_in(net) == "1x1",
        "have batch norm, but this model has none (model.backbone.norm)": "conv1.norm.running_mean" not in tensors,
        "do not dilate conv5_x, but this model does (model.features)": dilated,
    }
    for reason, holds in reasons.items():
        if holds:
            raise WeightsError(f"{library}'s ResNets {reason}: use the layout safetensors.")


def stride_in(net: nn.Module) -> str | None:
    """Returns the bottleneck convolution with the stride, "1x1" or "3x3"; None for nets without bottlenecks."""
    block = getattr(net, "conv3_x", [None])[0]
    if not hasattr(block, "conv3"):
        return None
    return "1x1" if block.conv1.conv.stride == (2, 2) else "3x3"
