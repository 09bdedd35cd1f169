"""What is in an image, and where (appendix C): classifiers name the classes, localizers give each of them a box."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from resdet.backbones.modes import evaluating
from resdet.classification.config import TestCropsConfig
from resdet.classification.model import Classifier
from resdet.classification.test_crops import Scorer, build_test_crops, tensors
from resdet.errors import ConfigError
from resdet.images.decode import as_image
from resdet.localization.config import LocateConfig
from resdet.localization.locate import Locator, locate
from resdet.results.result import Result


class ClassifyAndLocate:
    """Localizers and classifiers, one or several of each, that predict as one."""

    def __init__(
        self,
        localizers: Sequence[Any],
        classifiers: Sequence[Classifier],
        locating: LocateConfig | None = None,
        views: TestCropsConfig | None = None,
        top: int = 5,
    ):
        """So many classes are named an image, five as in ILSVRC. `locating` says how they are looked for, `views` how
        images are shown to the classifiers."""
        self.localizers, self.classifiers = list(localizers), list(classifiers)
        self.locator = Locator(localizers, locating)
        for number, model in enumerate(classifiers, 1):
            check_classifier(model, self.locator.classes, f"Number {number} of the classifiers")
        first, views = classifiers[0], views or TestCropsConfig()
        self.show = build_test_crops(views, first.size, first.short)
        self.score = Scorer(classifiers, self.locator.device, views.views == "dense")
        self.top = min(top, len(first.classes))

    def predict(self, images: Iterable, score: float | None = None) -> list[Result]:
        """One result an image; `images` are paths and uint8 RGB arrays [H, W, 3].

        Names and scores, of which those below `score` are left out, are the classifiers'.
        """
        return list(self.stream(images, score))

    def stream(self, images: Iterable, score: float | None = None) -> Iterator[Result]:
        """The same one after another: no more images are read than results are taken."""
        for image in images:
            with evaluating([*self.localizers, *self.classifiers]):
                result = self.result(image)
            yield result.above(score or 0)

    @torch.inference_mode()
    def result(self, image: Any) -> Result:
        scores = self.score(tensors(self.show, as_image(image))).mean(0).cpu()
        best = scores.topk(self.top)
        found = locate(self.locator, image, best.indices.numpy())
        found.scores, found.names = best.values.numpy(), [self.classifiers[0].classes[i] for i in found.labels]
        return found


def check_classifier(model: Any, classes: Sequence[str], name: str) -> None:
    """Its classes' names may be words, and a localizer's are synsets: in number and order they must agree."""
    if not isinstance(model, Classifier) or len(model.classes) != len(classes):
        raise ConfigError(f"{name} is no classifier of the localizer's {len(classes)} classes: give one that is.")
