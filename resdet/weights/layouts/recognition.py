"""The table of layouts: how each is recognized, what its tensors imply, and its tensors under our names."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from resdet.errors import WeightsError
from resdet.optional import torchvision
from resdet.weights import coco_classes
from resdet.weights.layouts import caffe2, detectron2, keras, torchvision_classifiers, torchvision_detectors
from resdet.weights.layouts.unsupported import kind_of
from resdet.weights.reading import Checkpoint, shown

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Categories:
    """The classes of a model by name, and by the ids that its data set calls them."""

    names: list[str]
    ids: list[int]

    def pairs(self) -> list[tuple[int, str]]:
        return list(zip(self.ids, self.names))


def numbered(count: int) -> Categories:
    return Categories([str(label) for label in range(count)], list(range(1, count + 1)))


def imagenet(count: int) -> Categories:
    """ImageNet's, where there are a thousand."""
    if count != 1000:
        return numbered(count)
    return Categories(list(torchvision().models.ResNet50_Weights.IMAGENET1K_V1.meta["categories"]), list(range(1000)))


def torchvision_coco(count: int) -> Categories:
    """COCO's ids 1 to 90 are torchvision's 90 classes, of which ten are unused and called N/A."""
    if count != 90:
        return Categories([str(label) for label in range(1, count + 1)], list(range(1, count + 1)))
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights as weights

    return Categories(list(weights.COCO_V1.meta["categories"])[1:], list(range(1, 91)))


def coco(count: int) -> Categories:
    """COCO's 80 classes, in the order of their ids."""
    if count != len(coco_classes.NAMES):
        return numbered(count)
    return Categories(list(coco_classes.NAMES.values()), list(coco_classes.NAMES))


@dataclass(frozen=True)
class Layout:
    """One library's way to name and lay out tensors."""

    name: str
    fits: Callable[[State], bool]
    to_our_names: Callable[[State], dict[str, Tensor]]  # with normalize.mean and normalize.std, where they are known
    settings: Callable[[State, str], dict] | None = None  # the `model` section of a config; None: the file tells it
    detector: bool = False
    categories: Callable[[int], Categories] = imagenet

    def tensors(self, checkpoint: Checkpoint) -> dict[str, Tensor]:
        """Under our names."""
        with blaming(checkpoint.origin):
            return self.to_our_names(checkpoint.state)

    def section(self, checkpoint: Checkpoint) -> dict:
        """The `model` section of a config that the weights fit."""
        with blaming(checkpoint.origin):
            return self.settings(checkpoint.state, checkpoint.origin)


@contextmanager
def blaming(origin: str) -> Iterator[None]:
    """Names the file in errors; a layout's code assumes the tensors, and shapes, that all of its nets have."""
    try:
        yield
    except (IndexError, RuntimeError, TypeError, ValueError):
        raise WeightsError(f"{origin} has names of a known net and tensors of other shapes: it is damaged.") from None
    except (KeyError, StopIteration) as error:
        lacks = f"{error}, which such a net has" if error.args else "part of what such a net has"
        raise WeightsError(f"{origin} lacks {lacks}: it is of another net than its names say, or incomplete.") from None
    except WeightsError as error:
        raise WeightsError(str(error) if origin in str(error) else f"{origin}: {error}") from None


def without_prefix(state: State) -> dict[str, Tensor]:
    return {name.removeprefix("backbone."): tensor for name, tensor in state.items()}


def is_net(state: State) -> bool:
    """A classifier or a backbone of ours; other libraries have a `backbone.` as well."""
    return "normalize.mean" in state or any(re.match(r"(backbone\.)?conv2_x\.\d+\.", name) for name in state)


def is_localizer(state: State) -> bool:
    return any(name.endswith("rpn.scores.weight") for name in state)


def with_count(settings_of_backbone: Callable, to_our_names: Callable) -> Callable[[State, str], dict]:
    """The settings of a classifier, from those of its backbone."""

    def settings(state: State, origin: str) -> dict:
        classes = len(to_our_names(state).get("fc.bias", ()))
        return {"backbone": settings_of_backbone(state, origin), "num_classes": classes}

    return settings


LAYOUTS = (
    Layout("resdet detector", lambda state: "rpn.objectness.weight" in state, dict, detector=True),
    Layout("resdet localizer", is_localizer, dict, detector=True),
    Layout(
        "torchvision detector",
        torchvision_detectors.is_detector,
        torchvision_detectors.to_our_names,
        torchvision_detectors.settings,
        detector=True,
        categories=torchvision_coco,
    ),
    Layout(
        "detectron2 detector",
        detectron2.is_detector,
        detectron2.to_our_names,
        detectron2.settings,
        detector=True,
        categories=coco,
    ),
    Layout("resdet", is_net, without_prefix),
    Layout("keras", keras.is_keras, keras.to_our_names, keras.settings),
    Layout(
        "torchvision",
        torchvision_classifiers.is_resnet,
        torchvision_classifiers.resnet_to_our_names,
        torchvision_classifiers.resnet_settings,
    ),
    Layout(
        "torchvision",
        torchvision_classifiers.is_vgg,
        torchvision_classifiers.vgg_to_our_names,
        torchvision_classifiers.vgg_settings,
    ),
    Layout(
        "detectron2 backbone",
        detectron2.is_backbone,
        detectron2.backbone_to_our_names,
        with_count(detectron2.settings_of_backbone, detectron2.backbone_to_our_names),
    ),
    Layout(
        "caffe2",
        caffe2.is_backbone,
        caffe2.to_our_names,
        with_count(caffe2.settings_of_backbone, caffe2.to_our_names),
    ),
)


def recognize(checkpoint: Checkpoint) -> Layout:
    """The layout of a state dict, by the names in it."""
    for layout in LAYOUTS:
        if layout.fits(checkpoint.state):
            return layout
    what = f"these names ({', '.join(map(shown, list(checkpoint.state)[:3]))}, …) are"
    if kind := kind_of(checkpoint.state):
        what = f"this seems to be {kind},"
    raise WeightsError(f"{checkpoint.origin}: {what} of no layout that is known; docs/weights.md lists those.")
