"""Tests the files of proposals, and the sampling and batching of regions."""

import pickle

import numpy as np
import pytest
import torch
from painted import Painted, Ramp

from resdet.data.loader import Notes
from resdet.errors import DataError
from resdet.localization.config import LocalizerRCNNConfig
from resdet.localization.data.config import LocalizationConfig, LocAugmentConfig
from resdet.localization.data.proposals import ProposalFiles, key_of
from resdet.localization.data.regions import RegionLoader, RegionSamples, sample_region


def data(flip=0.5, pca_color=0.0) -> LocalizationConfig:
    augment = LocAugmentConfig(short=(40, 48), flip=flip, pca_color=pca_color)
    return LocalizationConfig(size=32, short=40, augment=augment, workers=0)


@pytest.fixture
def source():
    return Painted([[8, 8, 40, 40], [4, 10, 24, 30], [0, 0, 30, 20]], [0, 1, 0], (48, 40))


@pytest.fixture
def files(tmp_path, source):
    """Writes per object: its box, a box with IoU 0.75, and one that misses it; the last image has no proposals."""
    files = ProposalFiles(tmp_path / "proposals", 3, 4)
    for i in range(2):
        x1, y1, x2, y2 = source.boxes(i)[0]
        files.write(i, np.array([[x1, y1, x2, y2], [x1, y1, x2, y1 + 0.75 * (y2 - y1)], [0, 0, 8, 8]], np.float32))
    files.write(2, np.zeros((0, 4), np.float32))
    return files


def test_files_resume_after_an_interruption(tmp_path):
    first = ProposalFiles(tmp_path / "p", 5, 2)
    assert first.missing().tolist() == [0, 1, 2, 3, 4] and len(first[3]) == 0
    first.write(1, np.arange(12, dtype=np.float32).reshape(3, 4))  # more than fit
    first.write(4, np.zeros((0, 4), np.float32))
    again = ProposalFiles(tmp_path / "p", 5, 2)
    assert again.missing().tolist() == [0, 2, 3]
    assert again[1].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]] and again[4].shape == (0, 4)
    again.write(0, np.ones((1, 4), np.float32))  # two processes write to one file
    assert first[0].tolist() == [[1, 1, 1, 1]]
    assert isinstance(again.boxes, np.memmap) and len(pickle.dumps(again)) < 1000
    assert pickle.loads(pickle.dumps(again))[1].tolist() == again[1].tolist()


def test_an_unwritable_folder_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="name another folder in model.cache"):
        ProposalFiles(tmp_path / "file" / "folder", 5, 2)


def test_the_cache_key_depends_on_weights_settings_and_data(source):
    weights = {"a": torch.ones(2, 3)}
    keys = [key_of(weights, ["dense"], source), key_of(weights, ["center"], source)]
    keys.append(key_of(weights, ["dense"], Painted.random(4)))
    other = Painted.random(3)
    other.name = lambda i: f"other/{i}.JPEG"
    keys.append(key_of(weights, ["dense"], other))
    weights["a"][1, 2] = 2
    keys.append(key_of(weights, ["dense"], source))
    assert len(set(keys)) == 5
    assert key_of({"a": torch.ones(2, 3)}, ["dense"], source) == keys[0]


def test_a_region_has_the_object_of_the_largest_overlap():
    """Two objects, a proposal near the second one with an IoU of exactly 1/2, and one between them."""
    objects = np.float32([[0, 0, 10, 10], [20, 0, 30, 10]])
    boxes, rng = np.float32([[20, 0, 30, 5], [8, 0, 21, 10]]), np.random.default_rng(0)
    for share, expected in ((1.0, True), (0.0, False)):
        for _ in range(5):
            box, target, positive = sample_region(boxes, objects, 0.5, share, rng)
            assert positive is expected and box.tolist() == boxes[0 if expected else 1].tolist()
            assert target.tolist() == objects[1 if expected else 0].tolist()


def samples(source, files, augment=None, **options):
    model = LocalizerRCNNConfig(**{"context": 0} | options)
    return RegionSamples(source, files, data(**augment or {}), model, 0)


def test_half_of_the_regions_are_positive(source, files):
    made = [samples(source, files)[position, 0] for position in range(60)]
    assert 18 < sum(region.positive for region in made) < 42
    assert all((region.box == [0, 0, 8, 8]).all() or region.positive for region in made if region.box[0] == 0)
    assert all(region.label == 0 and region.image == 0 for region in made)
    boxes = {tuple(region.box.tolist()) for region in made if region.positive}
    assert {(8, 8, 40, 40), (8, 8, 40, 32)} <= boxes  # mirroring does not change this box


def test_positive_iou_sets_the_threshold(source, files):
    made = [samples(source, files, positive_iou=0.8)[position, 1] for position in range(40)]
    heights = {float(region.box[3] - region.box[1]) for region in made if region.positive}
    assert heights == {20.0}


def test_box_and_object_are_mirrored_with_the_pixels(source, files):
    """Checks that the boxes match the pixels of the region that show the object."""
    found = set()
    for position in range(40):
        region = samples(source, files)[position, 1]
        x1 = float(region.object[0])
        found.add(x1)
        assert (region.object == [x1, 10, x1 + 20, 30]).all()
        if region.positive:
            assert region.box[0] == x1 and region.box[2] == x1 + 20
            vivid = np.ptp(region.pixels[4:-4, 4:-4].astype(int), axis=2).mean()
            assert vivid > 80  # red and blue on gray ground
    assert found == {4.0, 48 - 24.0}


@pytest.fixture
def ramp(tmp_path):
    """Returns an image whose colors encode the position, and its object as the only proposal."""
    source, files = Ramp(), ProposalFiles(tmp_path / "ramp", 1, 1)
    files.write(0, source.boxes(0))
    return source, files


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_a_region_shows_its_box_in_the_order_of_the_pixels(ramp, flip):
    columns = 2 * (20 + 40 * (np.arange(32) + 0.5) / 32)
    rows = 2 * (30 + 40 * (np.arange(32) + 0.5) / 32)
    for position in range(5):
        region = samples(*ramp, {"flip": flip})[position, 0]
        np.testing.assert_allclose(region.pixels[16, :, 0], columns[::-1] if flip else columns, atol=2)
        np.testing.assert_allclose(region.pixels[:, 16, 1], rows, atol=2)
        assert region.box.tolist() == region.object.tolist() == ([40, 30, 80, 70] if flip else [20, 30, 60, 70])


def test_colors_are_shifted(ramp):
    plain, shifted = (samples(*ramp, {"pca_color": std})[0, 0].pixels[..., :2] for std in (0.0, 0.2))
    shift = shifted.astype(int) - plain
    assert shift.any() and (shift == shift[0, 0]).all()


def test_boxes_annotated_at_another_size(source, files, tmp_path):
    """Compares with the unscaled boxes: twice as wide and three times as high, the regions are the same."""
    wanted = [samples(source, files)[position, 1] for position in range(20)]
    larger = ProposalFiles(tmp_path / "larger", 3, 4)
    larger.write(1, files[1] * (2, 3, 2, 3))
    source.sizes, source.things = source.sizes * (2, 3), source.things * np.float32([2, 3, 2, 3])
    made = [samples(source, larger)[position, 1] for position in range(20)]
    for region, expected in zip(made, wanted):
        np.testing.assert_allclose(region.pixels, expected.pixels, atol=1)
        np.testing.assert_allclose(region.box, expected.box * (2, 3, 2, 3))
        assert region.positive == expected.positive
    found = {tuple(region.object.tolist()) for region in made}
    assert found == {(8, 30, 48, 90), (96 - 48, 30, 96 - 8, 90)}  # original and mirrored


def test_a_pass_has_each_image_once(source, tmp_path):
    source = Painted.random(8)
    loader = RegionLoader(samples(source, ProposalFiles(tmp_path / "none", 8, 1)), 4, torch.device("cpu"), Notes(print))
    batches = loader.batches(0)
    assert sorted(torch.cat([next(batches).indices for _ in range(2)]).tolist()) == list(range(8))


def test_batches_ignore_images_without_proposals(source, files):
    loader = RegionLoader(samples(source, files), 3, torch.device("cpu"), Notes(print))
    batch = next(loader.batches(0))
    assert batch.images.shape == (3, 3, 32, 32) and batch.images.dtype == torch.uint8
    assert sorted(batch.indices.tolist()) == [0, 1, 2]
    assert all((label == -1) == (index == 2) for label, index in zip(batch.targets.labels, batch.indices))
    assert loader.steps_per_epoch == 1
