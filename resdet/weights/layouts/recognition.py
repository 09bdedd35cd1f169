"""Table of layouts: recognition by tensor names, implied settings, and conversion to resdet's names."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from resdet.errors import WeightsError
from resdet.weights import published_categories
from resdet.weights.categories import Categories
from resdet.weights.checkpoint_file import Checkpoint, shorten
from resdet.weights.layouts import caffe2, detectron2, keras, torchvision_classifiers, torchvision_detectors
from resdet.weights.layouts.unsupported import kind_of

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Layout:
    """Tensor names and layout of one library."""

    name: str
    fits: Callable[[State], bool]
    to_our_names: Callable[[State], dict[str, Tensor]]  # with normalize.mean and normalize.std, if known
    settings: Callable[[State, str], dict] | None = None  # the `model` section of a config; None: in the metadata
    detector: bool = False
    categories: Callable[[int], Categories] = published_categories.imagenet

    def classes_of(self, section: Mapping[str, Any]) -> Categories:
        """Returns the classes of a model with this section; one class with COCO's 17 keypoints is `person`."""
        count, keypoint = section.get("num_classes", 0), section.get("keypoint")
        if count == 1 and keypoint and keypoint["names"] is None:
            return Categories(["person"], [1])
        return self.categories(count)

    def tensors(self, checkpoint: Checkpoint) -> dict[str, Tensor]:
        """Returns the tensors under resdet's names."""
        with layout_errors(checkpoint.origin):
            return self.to_our_names(checkpoint.state)

    def section(self, checkpoint: Checkpoint) -> dict:
        """Returns the `model` section of a config that fits the weights; only for layouts with `settings`."""
        assert self.settings is not None
        with layout_errors(checkpoint.origin):
            return self.settings(checkpoint.state, checkpoint.origin)


@contextmanager
def layout_errors(origin: str) -> Iterator[None]:
    """Converts errors of missing or misshapen tensors, which a layout's functions do not check, to a WeightsError."""
    try:
        yield
    except (IndexError, RuntimeError, TypeError, ValueError):
        raise WeightsError(
            f"{origin} has the tensor names of a known net but unexpected shapes: save or download it again."
        ) from None
    except (KeyError, StopIteration) as error:
        missing = str(error) if error.args else "a tensor"
        raise WeightsError(
            f"{origin} lacks {missing}, which nets with such names have: save model.state_dict() and give that file."
        ) from None
    except WeightsError as error:
        raise WeightsError(str(error) if origin in str(error) else f"{origin}: {error}") from None


def without_prefix(state: State) -> dict[str, Tensor]:
    return {name.removeprefix("backbone."): tensor for name, tensor in state.items()}


def is_net(state: State) -> bool:
    """Whether a state dict is resdet's classifier or backbone; other libraries use the prefix `backbone.` as well."""
    return "normalize.mean" in state or any(re.match(r"(backbone\.)?conv2_x\.\d+\.", name) for name in state)


def is_localizer(state: State) -> bool:
    return any(name.endswith("rpn.scores.weight") for name in state)


def with_count(settings_of_backbone: Callable, to_our_names: Callable) -> Callable[[State, str], dict]:
    """Extends the settings of a backbone to those of a classifier."""

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
        categories=published_categories.torchvision_coco,
    ),
    Layout(
        "detectron2 detector",
        detectron2.is_detector,
        detectron2.to_our_names,
        detectron2.settings,
        detector=True,
        categories=published_categories.coco,
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
    """Returns the layout of a state dict, by its tensor names; raises a WeightsError if none fits."""
    for layout in LAYOUTS:
        if layout.fits(checkpoint.state):
            return layout
    reason = f"the layout of the tensor names ({', '.join(map(shorten, list(checkpoint.state)[:3]))}, …) is unknown"
    if kind := kind_of(checkpoint.state):
        reason = f"this looks like {kind}, which is not supported"
    raise WeightsError(f"{checkpoint.origin}: {reason}; docs/weights.md lists the supported layouts.")
