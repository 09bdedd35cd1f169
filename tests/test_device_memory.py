"""Tests running out of GPU memory: prediction in smaller groups, and error messages."""

from pathlib import Path

import numpy as np
import pytest
import torch

import resdet
from resdet.device_memory import in_halves, memory_remedy
from resdet.engine.config import TrainConfig
from resdet.engine.distributed import World
from resdet.engine.train_step import smaller_step
from resdet.errors import DeviceMemoryError
from resdet.images.shape_groups import predicted
from resdet.model import Prepared

SMALL = ("data.size=32", "data.short=32")


class Device:
    """A predictor whose device has memory for at most `most` images."""

    def __init__(self, most):
        self.most, self.groups = most, []

    def predict(self, images):
        self.groups.append(len(images))
        if len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return [f"result of {image}" for image in images]


@pytest.mark.parametrize(("most", "groups"), [(9, [7]), (4, [7, 3, 4]), (1, [7, 3, 1, 2, 1, 1, 4, 2, 1, 1, 2, 1, 1])])
def test_groups_are_halved_until_they_fit(most, groups):
    device = Device(most)
    assert in_halves(device.predict, range(7)) == [f"result of {number}" for number in range(7)]
    assert device.groups == groups


def test_an_image_that_does_not_fit_gives_a_short_message():
    with pytest.raises(DeviceMemoryError, match="One image does not fit into the memory of the GPU: use --device cpu"):
        in_halves(Device(0).predict, [1, 2])


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="a bug"), memory_remedy("A step", "lower it"):
        raise RuntimeError("a bug")


def test_a_stream_halves_its_groups_and_keeps_the_order():
    device = Device(2)
    prepare = lambda image: Prepared("same", image, (1, 1))
    predict = lambda images: device.predict([image.content for image in images])
    assert [result for _, _, result in predicted(prepare, predict, range(8), 8)] == [
        f"result of {number}" for number in range(8)
    ]
    assert max(device.groups) == 8


def test_a_classifier_halves_its_groups(monkeypatch):
    model = resdet.build("folder.yaml", "model.backbone.name=cifar_resnet20", "model.num_classes=10", *SMALL).eval()
    images = list(np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8))
    expected, scores = model.predict(images), model.scores

    def limited(crops):
        if len(crops) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return scores(crops)

    monkeypatch.setattr(model, "scores", limited)
    for result, other in zip(model.predict(images), expected, strict=True):
        np.testing.assert_allclose(result.scores, other.scores, rtol=1e-4)


@pytest.mark.parametrize(
    ("batch", "accumulate", "size", "first"),
    [
        (16, 1, 1, "set train.accumulate=2,"),
        (15, 1, 1, "set train.accumulate=3,"),
        (16, 2, 4, "set train.accumulate=4,"),
        (16, 4, 4, "use smaller images,"),
        (1, 1, 1, "use smaller images,"),
    ],
)
def test_a_full_training_names_the_next_number_of_micro_batches(batch, accumulate, size, first):
    train = TrainConfig(batch=batch, accumulate=accumulate)
    assert smaller_step(train, World(0, size, torch.device("cpu"))).startswith(first)
    assert "**Out of memory.**" in Path(__file__).parents[1].joinpath("docs/faq.md").read_text()
