"""Classification with localization (appendix C): classifiers predict the classes, localizers a box for each."""

from collections.abc import Sequence
from typing import Any

import torch

from resdet.backbones.modes import evaluating
from resdet.classification.config import TestCropsConfig
from resdet.classification.model import Classifier
from resdet.classification.test_crops import Scorer, build_test_crops
from resdet.errors import ConfigError
from resdet.images.decode import as_image
from resdet.localization.config import LocateConfig
from resdet.localization.locate import Locator, locate_in
from resdet.localization.rcnn_model import LocalizerRCNN
from resdet.localization.rpn_model import Localizer
from resdet.model import Prepared
from resdet.results.image_by_image import ImageByImage
from resdet.results.result import Result


class ClassifyAndLocate(ImageByImage):
    """One or more localizers and classifiers that predict together.

    Names and scores of results come from the classifiers; classes with a score below `score` are omitted.
    """

    def __init__(
        self,
        localizers: Sequence[Localizer | LocalizerRCNN],
        classifiers: Sequence[Classifier],
        locating: LocateConfig | None = None,
        views: TestCropsConfig | None = None,
        top: int = 5,
    ):
        """`locating` configures the localizers, `views` the classifiers' test crops; `top` is the number of classes per
        image, five as in ILSVRC."""
        self.localizers, self.classifiers = list(localizers), list(classifiers)
        self.locator = Locator(localizers, locating)
        for number, model in enumerate(classifiers, 1):
            check_classifier(model, self.locator.classes, f"Classifier {number}")
        first, views = classifiers[0], views or TestCropsConfig()
        self.crops = build_test_crops(views, first.size, first.short)
        self.score = Scorer(classifiers, self.locator.device, views.views == "dense")
        self.top = min(top, len(first.classes))

    def prepare_image(self, image: Any) -> Prepared:
        opened = as_image(image)
        return Prepared(None, (self.crops(opened), self.locator.build_views(opened)), opened.size[::-1])

    def predict_prepared(
        self, images: Sequence[Prepared], score: float | None = None, top: int | None = None
    ) -> list[Result]:
        """Returns the `top` classes (default: those of the constructor) of each image, processed one after another."""
        with evaluating([*self.localizers, *self.classifiers]):
            return [self.result(prepared, self.top if top is None else top).above(score or 0) for prepared in images]

    @torch.inference_mode()
    def result(self, image: Prepared, top: int) -> Result:
        crops, views = image.content
        scores = self.score(crops).mean(0).cpu()
        best = scores.topk(min(top, len(scores)))
        result = locate_in(self.locator, views, image.size, best.indices.numpy())
        result.scores, result.names = best.values.numpy(), [self.classifiers[0].classes[i] for i in result.labels]
        return result


def check_classifier(model: Any, classes: Sequence[str], name: str) -> Classifier:
    """Returns a classifier with as many classes as the localizer; raises a ConfigError for another model.

    Names are not compared, since the classifier's may be words and the localizer's are synsets.
    """
    if not isinstance(model, Classifier) or len(model.classes) != len(classes):
        raise ConfigError(f"{name} is not a classifier with the localizer's {len(classes)} classes: give such a model.")
    return model
