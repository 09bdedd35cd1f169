"""Prediction: results in pixels of the input images after resizing, padding and grouping."""

import cv2
import numpy as np
import pytest
import torch
from detection.heads import tiny
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from resdet.detection.config import InputConfig
from resdet.detection.inference import predictor
from resdet.detection.inference.predictor import pad, postprocess
from resdet.errors import Error
from resdet.images.shape_groups import grouped
from resdet.structures import BUCKETS, Detections

pytest.importorskip("torchvision")


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=(height, width, 3), dtype=np.uint8)


class Stub(nn.Module):
    """Replaces a detector with masks that are 1 everywhere, and records the shapes of its mask calls."""

    def __init__(self, resize: str = "opencv"):
        super().__init__()
        self.classes, self.category_ids, self.draws_masks = ["cat", "dog"], [17, 3], True
        self.draws_keypoints = False
        self.input, self.asked = InputConfig(resize=resize), []

    def masks(self, maps: list, boxes: Tensor, labels: Tensor) -> Tensor:
        self.asked.append(boxes.shape[:2])
        return torch.ones(*boxes.shape[:2], 28, 28)


def detections(*boxes: list[list[float]], places: int = 100) -> Detections:
    """Builds the detections of each image, with alternating classes and scores of 0.5."""
    found = torch.zeros(len(boxes), places, 4)
    for i, of_image in enumerate(boxes):
        found[i, : len(of_image)] = torch.tensor(of_image).view(-1, 4)
    valid = torch.arange(places) < torch.tensor([len(of_image) for of_image in boxes])[:, None]
    return Detections(found, torch.full(found.shape[:2], 0.5), torch.arange(places).expand(len(boxes), -1) % 2, valid)


def test_boxes_are_scaled_to_the_input_images():
    """The first image was reduced to half, 50 x 80; the second was enlarged 1.6 times in height and twice in width."""
    found = detections([[10, 5, 40, 25], [0, 0, 80, 50]], [[16, 16, 32, 48]])
    sizes, originals = torch.tensor([[50.0, 80.0], [64.0, 48.0]]), [(100, 160), (40, 24)]
    first, second = postprocess(Stub(), [], found, sizes, originals)
    assert first.boxes.tolist() == [[20, 10, 80, 50], [0, 0, 160, 100]] and first.size == (100, 160)
    assert second.boxes.tolist() == [[8, 10, 16, 30]] and second.masks.shape == (1, 40, 24)
    assert first.names == ["cat", "dog"] and first.category_ids.tolist() == [17, 3] and first.labels.tolist() == [0, 1]


class Waits(TorchDispatchMode):
    """Counts the scalars read from tensors, each of which would wait for a GPU."""

    count = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*arguments, **(options or {}))


def test_the_detections_of_a_batch_are_downloaded_once(monkeypatch):
    copies, cpu = [], torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: copies.append(tensor.shape) or cpu(tensor))
    model = Stub()
    model.draws_masks = False
    found = detections([[10, 5, 40, 25]], [], [[1, 2, 3, 4]] * 7)
    with Waits() as waits:
        results = postprocess(model, [], found, torch.full((3, 2), 64.0), [(64, 64)] * 3)
    assert [len(result) for result in results] == [1, 0, 7] and results[2].labels.tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert copies == [(3, 100, 7)] and waits.count == 0
    assert results[0].boxes.dtype == results[0].scores.dtype == np.float32 and results[0].scores.tolist() == [0.5]


def test_masks_fill_their_boxes():
    """Compares pixels; the borders of boxes are rounded to whole pixels."""
    found = detections([[10, 20, 40, 60], [3.2, 4.8, 9.1, 7.0], [-5, -5, 200, 2]])
    result = postprocess(Stub(), [], found, torch.tensor([[80.0, 90.0]]), [(80, 90)])[0]
    expected = np.zeros((3, 80, 90), bool)
    expected[0, 20:60, 10:40] = True
    expected[1, 5:7, 3:9] = True
    expected[2, :2] = True
    assert (result.masks == expected).all()


def test_masks_of_torchvision_weights_are_pasted_as_in_torchvision():
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    boxes = [[10.0, 20, 40, 60], [3.2, 4.8, 9.1, 7.0], [0, 0, 90, 2]]
    result = postprocess(Stub("torchvision"), [], detections(boxes), torch.tensor([[80.0, 90.0]]), [(80, 90)])[0]
    expected = paste_masks_in_image(torch.ones(3, 1, 28, 28), torch.tensor(boxes), (80, 90))[:, 0] > 0.5
    assert (torch.from_numpy(result.masks) == expected).all()


@pytest.mark.parametrize(
    "counts, kept", [((0, 0), []), ((1, 0), [8]), ((8, 2), [8, 8]), ((9, 64), [16, 64]), ((65, 3), [100, 8])]
)
def test_the_mask_head_runs_on_the_smallest_bucket(counts, kept):
    model = Stub()
    found = detections(*[[[1, 1, 9, 9]] * count for count in counts])
    results = postprocess(model, [], found, torch.full((2, 2), 20.0), [(20, 20), (30, 10)])
    assert model.asked == [(1, places) for places in kept] and {*kept} <= {*BUCKETS, 100}
    assert [len(result) for result in results] == list(counts)
    assert [result.masks.shape for result in results] == [(counts[0], 20, 20), (counts[1], 30, 10)]


def test_padding():
    pictures = [torch.from_numpy(picture(33, 20)), torch.from_numpy(picture(10, 50, seed=1))]
    padded = pad(pictures, 32)
    assert padded.pixels.shape == (2, 3, 64, 64) and padded.pixels.dtype == torch.uint8
    assert padded.pixels.is_contiguous(memory_format=torch.channels_last)
    assert padded.sizes.tolist() == [[33, 20], [10, 50]]
    for pixels, source in zip(padded.pixels, pictures):
        height, width = source.shape[:2]
        assert torch.equal(pixels[:, :height, :width].permute(1, 2, 0), source)
        assert pixels.sum() == source.sum()


def test_images_of_one_padded_size_are_grouped(model):
    sizes = [(64, 64), (64, 100), (60, 64), (64, 64), (100, 64), (64, 64), (64, 60)]
    pictures = [picture(*size) for size in sizes]
    groups = list(grouped(model.prepare_image, pictures, most=3))
    numbers = [[waiting.number for waiting in group] for group in groups]
    assert sorted(sum(numbers, [])) == list(range(7)) and max(map(len, numbers)) == 3
    for group in groups:
        contents = [torch.from_numpy(waiting.prepared.content) for waiting in group]
        assert len({pad([content], 32).pixels.shape for content in contents}) == 1
        assert all(waiting.prepared.size == sizes[waiting.number] for waiting in group)
        assert all(waiting.source is pictures[waiting.number] for waiting in group)


def test_a_rare_size_does_not_wait_for_the_last_image(model, monkeypatch):
    """Reads fewer than WINDOW images beyond the oldest one that waits for its group."""
    monkeypatch.setattr("resdet.images.shape_groups.WINDOW", 5)
    sizes = [(64, 100), *[(64, 64)] * 6, (100, 64), *[(64, 64)] * 9]
    read = []

    def images():
        for number, size in enumerate(sizes):
            read.append(number)
            yield picture(*size)

    found = []
    for group in grouped(model.prepare_image, images(), most=4):
        numbers = [waiting.number for waiting in group]
        assert read[-1] - numbers[0] < 5
        found += numbers
    assert sorted(found) == list(range(len(sizes))) and found != sorted(found)


def test_a_group_may_be_larger_than_the_window(model, monkeypatch):
    monkeypatch.setattr("resdet.images.shape_groups.WINDOW", 2)
    groups = grouped(model.prepare_image, [picture(64, 64)] * 7, most=3)
    assert [len(group) for group in groups] == [3, 3, 1]


@pytest.fixture(scope="module")
def model():
    return tiny.make("fpn")


def same(a, b) -> bool:
    return len(a) == len(b) and np.allclose(a.boxes, b.boxes, atol=1e-3) and (a.labels == b.labels).all()


def test_results_keep_the_order_of_the_images(model, tmp_path, monkeypatch):
    """Predicts paths and arrays one by one and grouped by shape, as on a GPU."""
    arrays = [picture(64, 64, 1), picture(40, 90, 2), picture(64, 64, 3), picture(128, 128, 4)]
    cv2.imwrite(str(tmp_path / "image.png"), arrays[1][..., ::-1])
    images = [arrays[0], tmp_path / "image.png", arrays[2], arrays[3]]
    alone = [model.predict([image], score=0.2)[0] for image in images]
    monkeypatch.setattr(predictor, "batch_for", lambda device: 8)
    together = model.predict(images, score=0.2)
    assert [result.size for result in together] == [array.shape[:2] for array in arrays]
    assert together[1].image == tmp_path / "image.png"
    for mine, other in zip(together, alone):
        assert len(mine) and same(mine, other)
    assert same(model.predict([arrays[1]], score=0.2)[0], alone[1])


def test_detections_are_inside_the_image_and_above_the_score(model):
    for result in model.predict([picture(40, 90), picture(200, 30)], score=0.2):
        height, width = result.size
        assert len(result) and (result.scores > 0.2).all() and (np.diff(result.scores) <= 0).all()
        assert (result.boxes >= 0).all() and (result.boxes <= np.add([width, height, width, height], 1e-3)).all()
        assert result.masks.shape == (len(result), height, width) and result.masks.dtype == bool
    assert len(model.predict([picture(40, 90)], score=0.999)[0]) == 0
    least = model.score
    assert all((result.scores > least).all() for result in model.predict([picture(40, 90)]))


def test_images_one_pixel_wide(model):
    for result, size in zip(
        model.predict([picture(1, 1), picture(1, 300), picture(300, 1)], score=0.0), [(1, 1), (1, 300), (300, 1)]
    ):
        assert result.size == size and np.isfinite(result.boxes).all()


def test_no_image_gives_no_result(model):
    assert model.predict([]) == []


@pytest.mark.parametrize("training", [True, False])
def test_predict_restores_the_training_mode(model, training, tmp_path):
    model.train(training)
    model.predict([picture(64, 64)])
    assert model.training is training
    (tmp_path / "broken.jpg").write_bytes(b"not a picture")
    with pytest.raises(Error, match="broken.jpg"):
        model.predict([tmp_path / "broken.jpg"])
    assert model.training is training
    assert all(parameter.requires_grad for parameter in model.parameters())
