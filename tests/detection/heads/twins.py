"""torchvision's detectors with weights like trained ones, resdet's with the same weights, and inputs for both."""

from dataclasses import replace

import torch
from norms import randomise_norms
from torch import Tensor, nn

from resdet import hub
from resdet.detection.model import Detector
from resdet.structures import Targets
from resdet.weights.checkpoint_file import Checkpoint

SHORT, LONG = 160, 256
CLASSES = 6
SPREAD = {  # standard deviation of each last layer's output: enough to rank scores and to move boxes
    "rpn.head.cls_logits": 2.0,
    "rpn.head.bbox_pred": 0.3,
    "roi_heads.box_predictor.cls_score": 1.5,
    "roi_heads.box_predictor.bbox_pred": 1.0,
    "roi_heads.mask_predictor.mask_fcn_logits": 3.0,
    "roi_heads.keypoint_predictor.kps_score_lowres": 3.0,
}


def narrow(masks: bool = False, norm: type = None, **options) -> nn.Module:
    """Builds torchvision's Faster or Mask R-CNN on ResNet-18 with an FPN of 32 channels and narrow heads."""
    from torchvision.models import resnet18
    from torchvision.models.detection import FasterRCNN, MaskRCNN
    from torchvision.models.detection.backbone_utils import BackboneWithFPN
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
    from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
    from torchvision.ops import FrozenBatchNorm2d

    torch.manual_seed(0)
    body = resnet18(weights=None, norm_layer=norm or FrozenBatchNorm2d)
    layers = {f"layer{n}": str(n - 1) for n in range(1, 5)}
    backbone = BackboneWithFPN(body, layers, [64, 128, 256, 512], 32)
    options |= {"box_head": TwoMLPHead(32 * 7 * 7, 64), "box_predictor": FastRCNNPredictor(64, CLASSES + 1)}
    if masks:
        options |= {
            "mask_head": MaskRCNNHeads(32, [32] * 2, 1),
            "mask_predictor": MaskRCNNPredictor(32, 32, CLASSES + 1),
        }
    kind = MaskRCNN if masks else FasterRCNN
    return randomise_norms(kind(backbone, min_size=SHORT, max_size=LONG, **options).eval())


def narrow_keypoints(keypoints: int = 5, **options) -> nn.Module:
    """Builds torchvision's Keypoint R-CNN of the same size."""
    from torchvision.models.detection import KeypointRCNN
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
    from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor

    backbone = narrow().backbone
    options |= {"box_head": TwoMLPHead(32 * 7 * 7, 64), "box_predictor": FastRCNNPredictor(64, CLASSES + 1)}
    options |= {"keypoint_head": KeypointRCNNHeads(32, [16] * 8)}
    options |= {"keypoint_predictor": KeypointRCNNPredictor(16, keypoints)}
    return randomise_norms(KeypointRCNN(backbone, min_size=SHORT, max_size=LONG, **options).eval())


def full(name: str, **options) -> nn.Module:
    """Builds a torchvision model by name: fasterrcnn_resnet50_fpn, maskrcnn_resnet50_fpn or version 2 of either."""
    from torchvision.models import detection

    torch.manual_seed(0)
    options |= {"weights": None, "weights_backbone": None, "num_classes": CLASSES + 1}
    return randomise_norms(getattr(detection, name)(min_size=SHORT, max_size=LONG, **options).eval())


@torch.no_grad()
def spread_out(theirs: nn.Module, picture: Tensor) -> nn.Module:
    """Scales each last layer by the spread of its first output: hundreds of boxes get distinct scores."""
    for name, layer in theirs.named_modules():
        if name in SPREAD:
            scale_once(layer, SPREAD[name])
    theirs([picture])
    return theirs


def scale_once(layer: nn.Module, wanted: float) -> None:
    def scale(module: nn.Module, given: tuple, output: Tensor) -> Tensor:
        hook.remove()
        factor = wanted / output.std()
        layer.weight.mul_(factor)
        layer.bias.mul_(factor)
        return output * factor

    hook = layer.register_forward_hook(scale)


def ours(theirs: nn.Module) -> Detector:
    """Builds resdet's detector from torchvision's state dict."""
    return small(hub.load_foreign(Checkpoint(theirs.state_dict(), "torchvision's twin"))).eval()


def small(model: Detector) -> Detector:
    """Sets the size of test images to that of torchvision's detectors above."""
    model.input = replace(model.input, min_size=SHORT, max_size=LONG)
    return model


def pictures(*sizes: tuple[int, int], seed: int = 0) -> list[Tensor]:
    """Makes uint8 [3, h, w] images of color blots with noise."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for height, width in sizes:
        coarse = torch.rand(1, 3, -(-height // 16), -(-width // 16), generator=generator)
        blots = nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")[0]
        made.append((255 * (0.8 * blots + 0.2 * torch.rand(3, height, width, generator=generator))).byte())
    return made


def floats(images: list[Tensor]) -> list[Tensor]:
    """Converts images to the input of torchvision's detectors."""
    return [image / 255 for image in images]


def objects(
    sizes: list[tuple[int, int]], counts: list[int], places: int = 0, mask_size: int = 0, seed: int = 0
) -> tuple[Targets, list[dict[str, Tensor]]]:
    """Makes random ellipses as resdet's targets, with `places` of padding, and as torchvision's."""
    from resdet.detection.data.segmentation import Bitmap

    generator = torch.Generator().manual_seed(seed)
    shape = (len(sizes), max(*counts, 1) + places)
    boxes, labels = torch.zeros(*shape, 4), torch.zeros(shape, dtype=torch.int64)
    valid = torch.arange(shape[1]) < torch.tensor(counts)[:, None]
    masks = torch.zeros(*shape, mask_size, mask_size, dtype=torch.uint8) if mask_size else None
    theirs = []
    for i, ((height, width), count) in enumerate(zip(sizes, counts)):
        limits = torch.tensor([width, height, width, height])
        center, half = torch.rand(2, count, 2, generator=generator).unbind()
        center, half = 0.25 + 0.5 * center, 0.05 + 0.15 * half
        boxes[i, :count] = (torch.cat([center - half, center + half], 1) * limits).round()
        labels[i, :count] = torch.randint(CLASSES, (count,), generator=generator)
        bitmaps = torch.stack([ellipse(box, height, width) for box in boxes[i]])
        if mask_size:
            for g in range(count):
                masks[i, g] = torch.from_numpy(Bitmap(bitmaps[g].numpy()).crop(boxes[i, g].numpy(), mask_size))
        theirs.append({"boxes": boxes[i, :count], "labels": labels[i, :count] + 1, "masks": bitmaps[:count]})
    return Targets(boxes, labels, valid, torch.zeros_like(valid), masks), theirs


def ellipse(box: Tensor, height: int, width: int) -> Tensor:
    """Returns uint8 [height, width], 1 at the pixels whose center lies in the ellipse that fills the box."""
    center, half = (box[2:] + box[:2]) / 2, ((box[2:] - box[:2]) / 2).clamp(min=1e-3)
    x = (torch.arange(width) + 0.5 - center[0]) / half[0]
    y = (torch.arange(height) + 0.5 - center[1]) / half[1]
    return (x.square()[None] + y.square()[:, None] <= 1).byte()
