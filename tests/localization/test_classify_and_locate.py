"""Tests ClassifyAndLocate against its classifiers and localizers run separately, singly and in ensembles."""

import numpy as np
import pytest
import torch
from localization.test_rpn_model import build, overlap, train
from painted import CLASSES, Painted
from torch.nn import functional as F

import resdet
from resdet.classification.config import TestCropsConfig
from resdet.errors import ConfigError
from resdet.images.crops import rectangle, ten_crop
from resdet.images.decode import as_image
from resdet.localization.classify_and_locate import ClassifyAndLocate
from resdet.localization.config import LocateConfig
from resdet.tasks import PredictOptions, tasks

WORDS = ["dog", "cat"]  # class names of the classifier
SMALL = ["model.backbone=cifar_resnet8", "model.num_classes=2"]


def classifier(seed=0):
    torch.manual_seed(seed)
    model = resdet.build("shapes_resnet20", *SMALL)
    torch.nn.init.normal_(model.backbone.fc.weight, std=1.0)
    model.classes = WORDS
    return model


def localizer(seed=0):
    model = build()
    torch.manual_seed(seed)
    torch.nn.init.normal_(model.rpn.scores.weight, std=0.5)
    torch.nn.init.normal_(model.rpn.boxes.weight, std=0.3)
    return model


@pytest.fixture(scope="module")
def images():
    return Painted.random(3, size=(64, 48)).pixels


def test_boxes_are_those_of_the_localizer_for_each_class(images):
    """Compares labels and scores with the classifier, boxes with the localizer; checks that both keep their modes."""
    where, what = localizer().train(), classifier().eval()
    found = ClassifyAndLocate([where], [what]).predict(images)
    assert where.training and not what.training
    named = what.predict(images)
    placed = where.predict(images, [expected.labels for expected in named])
    for result, expected, places, image in zip(found, named, placed, images):
        assert result.labels.tolist() == expected.labels.tolist() and result.names == expected.names
        assert set(result.names) == set(WORDS) and result.category_ids.tolist() == (expected.labels + 1).tolist()
        np.testing.assert_allclose(result.scores, expected.scores, rtol=1e-5)
        np.testing.assert_allclose(result.boxes, places.boxes, atol=0.01)
        assert result.size == (48, 64) and result.image is image and result.draw().shape == (48, 64, 3)


def test_the_classes_of_a_localizer_cannot_be_chosen():
    options = PredictOptions(classes=["dog"], classifiers={"net.pth": classifier()})
    with pytest.raises(ConfigError, match="a.pth is a localizer, .*: omit --classes"):
        tasks["localization"].predictor([localizer()], ["a.pth"], options)


def test_ensembles_average(images):
    """Compares scores with mean probabilities of two classifiers; checks that a second localizer moves the boxes."""
    nets, models = [classifier(seed).eval() for seed in (0, 1)], [localizer(seed).eval() for seed in (0, 1)]
    found = ClassifyAndLocate(models, nets, LocateConfig(testing="dense", scales=[40, 60])).predict(images)
    one, two = (ClassifyAndLocate(models[:1], [net]).predict(images) for net in nets)
    moved = 0
    for result, a, b in zip(found, one, two):
        scores = {label: score / 2 for label, score in zip(a.labels.tolist(), a.scores)}
        for label, score in zip(b.labels.tolist(), b.scores):
            scores[label] += score / 2
        assert result.scores.tolist() == pytest.approx(sorted(scores.values(), reverse=True), rel=1e-5)
        assert scores[result.labels[0]] == pytest.approx(result.scores[0], rel=1e-5)
        moved += np.abs(result.boxes - a.boxes).max() > 1
    assert moved


def test_classifiers_average_ten_crops(images):
    net = classifier().eval()
    found = ClassifyAndLocate([localizer()], [net], views=TestCropsConfig(views="ten_crop")).predict(images[:1])[0]
    crops = torch.from_numpy(ten_crop(as_image(images[0]), net.short, net.size)).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = F.softmax(net(crops), 1).mean(0)
    np.testing.assert_allclose(found.scores, expected[found.labels].numpy(), rtol=1e-5)


def test_the_whole_image_is_scored_at_several_scales(images):
    net = classifier().eval()
    views = TestCropsConfig(views="dense", scales=[32, 40], flip=False)
    found = ClassifyAndLocate([localizer()], [net], views=views).predict(images[:1])[0]
    scales = [torch.from_numpy(rectangle(as_image(images[0]), side)).permute(2, 0, 1)[None] for side in (32, 40)]
    with torch.no_grad():
        maps = [net.backbone.dense(net.normalize(pixels))[0] for pixels in scales]
    expected = sum(F.softmax(scores.mean((1, 2)), 0) for scores in maps) / 2
    np.testing.assert_allclose(found.scores, expected[found.labels].numpy(), rtol=1e-5)


def test_settings_are_those_of_the_constructor(images):
    """Compares with a localizer of these settings."""
    other, net, locating = localizer(), [classifier()], LocateConfig(testing="dense", scales=[40], vote=None)
    other.locating = locating
    found = ClassifyAndLocate([localizer()], net, locating).predict(images)
    for result, expected, default in zip(
        found, ClassifyAndLocate([other], net).predict(images), ClassifyAndLocate([localizer()], net).predict(images)
    ):
        np.testing.assert_array_equal(result.boxes, expected.boxes)
        assert np.abs(result.boxes - default.boxes).max() > 0.1


@pytest.mark.parametrize("top, count", [(None, 2), (1, 1), (9, 2)])
def test_a_prediction_may_have_its_own_number_of_classes(images, top, count):
    model = ClassifyAndLocate([localizer()], [classifier()])
    (result,) = model.predict_prepared([model.prepare_image(images[0])], top=top)
    assert len(result) == count


def test_top_and_minimum_score_limit_the_classes(images):
    where, net = [localizer()], [classifier()]
    sure = [ClassifyAndLocate(where, net, top=1).predict([image])[0] for image in images]
    assert [len(result) for result in sure] == [1, 1, 1] and all(result.scores[0] >= 0.5 for result in sure)
    limit = float(min(result.scores[0] for result in sure))
    assert [len(result) for result in ClassifyAndLocate(where, net).predict(images, limit)] == [1, 1, 1]
    assert ClassifyAndLocate(where, net).predict([]) == []


def test_a_classifier_of_other_classes_is_rejected(images):
    other = resdet.build("shapes_resnet20", *SMALL[:1], "model.num_classes=3")
    for wrong in (other, localizer()):
        with pytest.raises(resdet.Error, match="Classifier 2 is not a classifier with the localizer's 2"):
            ClassifyAndLocate([localizer()], [classifier(), wrong])


@pytest.mark.slow
def test_finds_the_trained_objects():
    """Trains both models on striped and checked rectangles; checks class and box (IoU >= 0.5) on the same images."""
    source = Painted.random(8, sides=(14, 30))
    where, what = train(build(), source, 90), classifier()
    crops = torch.from_numpy(np.stack(source.pixels)).permute(0, 3, 1, 2)
    optimizer = torch.optim.AdamW(what.parameters(), lr=5e-3)
    what.short = what.size = 48
    for _ in range(40):
        sum(what.train().losses(crops, torch.from_numpy(source.labels)).values()).backward()
        optimizer.step()
        optimizer.zero_grad()
    found = ClassifyAndLocate([where], [what]).predict(source.pixels)
    right = [
        result.names[0] == WORDS[label] and overlap(result.boxes[0], box) >= 0.5
        for result, label, box in zip(found, source.labels, source.things)
    ]
    assert np.mean(right) >= 0.75 and len(CLASSES) == len(WORDS)
