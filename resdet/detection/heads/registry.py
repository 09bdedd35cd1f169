"""Registries of the parts of RoI heads; imports no torch."""

from typing import TYPE_CHECKING, Any, Protocol

from resdet.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor, nn

    from resdet.detection.heads.branches import BranchInput, RoIBranch
    from resdet.detection.heads.config import BoxConfig, MaskConfig
    from resdet.ops.boxes import Weights


class BoxHead(Protocol):
    """Module that computes vectors [R, width] from pooled features [R, channels, size, size]."""

    width: int

    def __call__(self, x: "Tensor", /) -> "Tensor": ...


class BoxHeadBuilder(Protocol):
    """Builds a box head, an `nn.Module`, for features with this number of channels and side."""

    def __call__(self, config: "BoxConfig", channels: int, size: int) -> BoxHead: ...


class MaskHeadBuilder(Protocol):
    """Builds a module that computes logits [R, classes, m, m] from pooled features [R, channels, s, s]."""

    def __call__(self, config: "MaskConfig", channels: int, classes: int) -> "nn.Module": ...


class RoIBranchBuilder(Protocol):
    """Builds a branch of the RoI heads from its section of the model's config."""

    def __call__(self, config: Any, given: "BranchInput", /) -> "RoIBranch": ...


class BoxLoss(Protocol):
    """Computes the loss [...] of deltas [..., 4] that should map boxes [..., 4] to targets [..., 4]."""

    def __call__(
        self, deltas: "Tensor", boxes: "Tensor", targets: "Tensor", weights: "Weights", beta: float
    ) -> "Tensor": ...


class ClassLoss(Protocol):
    """Computes the loss [B, N] of logits [B, N, C + 1], background last, for labels [B, N]."""

    def __call__(self, logits: "Tensor", labels: "Tensor") -> "Tensor": ...


HEADS = "resdet.detection.heads"
box_heads: Registry[BoxHeadBuilder] = Registry(
    "box head", "model.box.head", {"conv_fc": f"{HEADS}.box_head:conv_fc_head"}
)
mask_heads: Registry[MaskHeadBuilder] = Registry(
    "mask head", "model.mask.head", {"conv": f"{HEADS}.mask_head:conv_mask_head"}
)
# A branch is built if the section with its name in the model's config is not null.
roi_branches: Registry[RoIBranchBuilder] = Registry(
    "RoI branch",
    "model",
    {"mask": f"{HEADS}.mask_head:mask_branch", "keypoint": f"{HEADS}.keypoint_head:keypoint_branch"},
)
box_losses: Registry[BoxLoss] = Registry(
    "box loss",
    "model.box.loss",
    {kind: f"{HEADS}.losses:{kind}_box_loss" for kind in ("smooth_l1", "giou", "diou")},
)
class_losses: Registry[ClassLoss] = Registry(
    "class loss", "model.box.class_loss", {"cross_entropy": f"{HEADS}.losses:cross_entropy"}
)
register_box_head = box_heads.register
register_mask_head = mask_heads.register
register_roi_branch = roi_branches.register
register_box_loss = box_losses.register
register_class_loss = class_losses.register
