"""Batches of scenes: padding, counts of objects, damaged and extreme images, processes and restarts."""

from functools import partial

import cv2
import numpy as np
import pytest
import torch

from resdet.data.loader import Notes
from resdet.detection.data.annotations import Objects
from resdet.detection.data.augment_config import SceneConfig
from resdet.detection.data.buckets import buckets, rounded_up, training_shape
from resdet.detection.data.collate import Sample, TargetFormat, collate_scenes
from resdet.detection.data.loader import SceneLoader, SceneSamples, collate_evaluation, evaluation_batches
from resdet.detection.data.scene import Scene
from resdet.detection.data.segmentation import Polygons
from resdet.detection.data.transforms import TrainScene
from resdet.errors import ConfigError, DataError
from resdet.images.resize import resize

CPU = torch.device("cpu")
SHAPE = partial(training_shape, shapes=buckets(100, 150))
PLAIN = SceneConfig(min_size=[100], max_size=150)


def boxes_scene(count: int, crowd: int = 0, size: tuple[int, int] = (100, 100)) -> Scene:
    """Makes `count` boxes of increasing size, of which the last `crowd` are crowds."""
    sides = np.linspace(1, 90, count)
    boxes = np.stack([sides * 0, sides * 0, sides, sides], 1).astype(np.float32)
    segments = [Polygons([np.array([[0, 0], [s, 0], [s, s], [0, s]])]) for s in sides]
    labels = np.arange(count, dtype=np.int64)
    return Scene(np.full((*size[::-1], 3), 7, np.uint8), boxes, labels, np.arange(count) >= count - crowd, segments)


def collated(*scenes: Scene | None, **options):
    return collate_scenes(
        [Sample(scene, i, f"{i}.jpg") for i, scene in enumerate(scenes)], SHAPE, TargetFormat(**options)
    )


def test_images_are_padded_to_a_bucket():
    batch, notes = collated(boxes_scene(1, size=(133, 100)), boxes_scene(2, size=(100, 90)))
    pixels = batch.images.pixels
    assert pixels.shape == (2, 3, 128, 160) and pixels.dtype == torch.uint8
    assert pixels.is_contiguous(memory_format=torch.channels_last)
    assert batch.images.sizes.tolist() == [[100, 133], [90, 100]] and batch.images.sizes.dtype == torch.float32
    assert (pixels[0, :, :100, :133] == 7).all() and pixels[0].sum() == 7 * 3 * 100 * 133
    assert batch.indices.tolist() == [0, 1] and notes == []


@pytest.mark.parametrize("count, room", [(0, 8), (8, 8), (9, 16), (33, 64), (100, 100), (99, 100)])
def test_the_number_of_places_for_objects(count, room):
    batch, notes = collated(boxes_scene(count), boxes_scene(min(count, 1)), max_objects=100)
    targets = batch.targets
    assert notes == [] and targets.boxes.shape == (2, room, 4) and targets.masks is None
    assert targets.valid.sum(1).tolist() == [count, min(count, 1)]
    assert (targets.valid[:, :1] | (targets.valid.sum(1, keepdim=True) == 0)).all()
    assert (targets.boxes[~targets.valid] == 0).all() and not targets.crowd.any()
    assert (targets.boxes.dtype, targets.labels.dtype) == (torch.float32, torch.int64)


def test_objects_come_before_crowds():
    targets = collated(boxes_scene(10, crowd=4))[0].targets
    assert targets.crowd[0].tolist() == [False] * 6 + [True] * 4 + [False] * 6
    assert targets.valid[0].tolist() == [True] * 10 + [False] * 6
    assert sorted(targets.labels[0, :6].tolist()) == list(range(6))


def test_the_largest_of_too_many_objects_are_kept_with_a_note():
    batch, notes = collated(boxes_scene(3), boxes_scene(500), max_objects=64)
    assert sorted(batch.targets.labels[1].tolist()) == list(range(436, 500))
    assert len(notes) == 1 and all(word in notes[0] for word in ("1.jpg", "500", "64"))


def test_masks_are_stretched_over_their_boxes(fakes, rng):
    scene = fakes.scene(rng)
    targets = collated(scene, boxes_scene(0), mask_size=28)[0].targets
    assert targets.masks.shape == (2, 8, 28, 28) and targets.masks.dtype == torch.uint8
    for box, label, mask in zip(targets.boxes[0, :3], targets.labels[0, :3], targets.masks[0, :3]):
        x1, y1, x2, y2 = np.rint(box.numpy()).astype(int)
        shown = scene.pixels[y1:y2, x1:x2, int(label)]
        wanted = cv2.resize(shown, (28, 28), interpolation=cv2.INTER_AREA) > 127
        found = mask.numpy() > 127
        assert (wanted & found).sum() > 0.93 * (wanted | found).sum()
    assert not targets.masks[1].any()


def test_an_object_without_a_segment_becomes_a_crowd_for_masks():
    scene = boxes_scene(3)
    scene.segments[1] = None
    batch, notes = collated(scene, scene, mask_size=14)
    assert batch.targets.crowd[0, :3].tolist() == [False, False, True] and batch.targets.labels[0, 2] == 1
    assert len(set(notes)) == 1 and "without a segmentation" in notes[0]
    mixed = boxes_scene(3, crowd=1)
    mixed.segments[0] = None
    assert collated(mixed, mask_size=14)[0].targets.crowd[0, :3].tolist() == [False, True, True]
    assert collated(scene)[1] == [] and not collated(scene)[0].targets.crowd.any()


def test_images_are_floats_if_any_is():
    scene = boxes_scene(1)
    scene.pixels = scene.pixels.astype(np.float32) / 2
    for scenes in ((scene, boxes_scene(1)), (boxes_scene(1), scene)):
        pixels = collated(*scenes)[0].images.pixels
        assert pixels.dtype == torch.float32 and sorted(pixels.amax((1, 2, 3)).tolist()) == [3.5, 7]


def test_only_crowds():
    targets = collated(boxes_scene(2, crowd=2), mask_size=14)[0].targets
    assert targets.crowd[0].tolist() == targets.valid[0].tolist() == [True, True] + [False] * 6


def test_unreadable_images_have_no_size():
    for scenes in ((None, boxes_scene(2)), (None, None)):
        batch, _ = collated(*scenes, mask_size=14)
        assert batch.images.sizes[0].tolist() == [0, 0] and not batch.targets.valid[0].any()
        assert not batch.images.pixels[0].any()


@pytest.fixture
def source(fakes, rng):
    sizes = [(160, 120), (120, 160), (300, 100), (64, 64), (1, 1), (20_000, 10), (10, 900)]
    made = [fakes.make(rng, *size, labels=(0, 1)[: 2 * (min(size) > 20)]) for size in sizes]
    return fakes.Source(made + [fakes.make(rng) for _ in range(15)])


def loader(source, said=None, augment=PLAIN, **options) -> SceneLoader:
    options = {"workers": 0, "targets": TargetFormat(mask_size=14), **options}
    return SceneLoader(source, augment, 4, 3, CPU, Notes((said if said is not None else []).append), **options)


def take(batches, count):
    return [batch for _, batch in zip(range(count), batches)]


def flat(batch):
    return [*batch.images, *(field for field in batch.targets if field is not None), batch.indices]


def assert_same(first, second):
    for one, other in zip(first, second, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(flat(one), flat(other), strict=True))


def test_a_later_start_and_workers_give_the_same_batches(source):
    alone = take(loader(source).batches(0), 9)
    assert_same(alone[5:], take(loader(source).batches(5), 4))
    assert_same(alone[:4], take(loader(source, workers=2).batches(0), 4))
    assert loader(source).steps_per_epoch == 6
    seen = torch.cat([batch.indices for batch in alone[:6]])
    assert set(seen.tolist()) == set(range(22))
    assert {tuple(batch.images.pixels.shape[2:]) for batch in alone} <= {*buckets(100, 150), (128, 128), (160, 160)}


def test_two_processes_have_half_of_each_batch(source):
    whole = take(loader(source).batches(2), 4)
    halves = [take(loader(source, rank=rank, world=2).batches(2), 4) for rank in range(2)]
    for step, batch in enumerate(whole):
        shares = [half[step] for half in halves]
        assert torch.equal(torch.cat([share.indices for share in shares]), batch.indices)
        assert torch.equal(torch.cat([share.images.sizes for share in shares]), batch.images.sizes)
        for slot in range(4):
            share, mine = shares[slot // 2], slot % 2
            height, width = batch.images.sizes[slot].int().tolist()
            cut = lambda pixels: pixels[..., :height, :width]
            assert torch.equal(cut(share.images.pixels[mine]), cut(batch.images.pixels[slot]))


def test_images_of_a_batch_have_similar_proportions(source):
    for batch in take(loader(source).batches(0), 6):
        heights, widths = batch.images.sizes.T
        real, padded = (heights * widths).sum(), batch.images.pixels[:, 0].numel()
        if batch.indices.min() >= 7:
            assert real > 0.6 * padded


def test_copies_set_the_frequency_of_images(source):
    copies = np.zeros(22)
    copies[[0, 8]] = 2, 6
    indices = torch.cat([batch.indices for batch in take(loader(source, copies=copies).batches(0), 2)])
    assert torch.bincount(indices)[[0, 8]].tolist() == [2, 6]


def lost(source):
    """Makes one image of the source unreadable."""
    read = source.image

    def image(i):
        if i == 9:
            raise DataError("9.png cannot be read")
        return read(i)

    source.image = image
    return source


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_an_error(source, workers):
    with pytest.raises(DataError, match="^9.png cannot be read$"):
        take(loader(lost(source), workers=workers).batches(0), 6)


def test_an_unreadable_image_can_be_skipped(source):
    said = []
    batches = take(loader(lost(source), said, on_bad_image="skip").batches(0), 12)
    skipped = [(batch, slot) for batch in batches for slot in np.flatnonzero(batch.indices == 9)]
    assert len(skipped) >= 2
    for batch, slot in skipped:
        assert batch.images.sizes[slot].tolist() == [0, 0] and not batch.targets.valid[slot].any()
    assert said == ["note on the data 1: image left out, 9.png cannot be read"]


def test_errors_of_the_config_are_never_skipped(source):
    source.has_masks = False
    pasting = SceneConfig(min_size=[100], max_size=150, copy_paste=1.0)
    with pytest.raises(ConfigError, match="^data.augment.copy_paste"):
        take(loader(source, augment=pasting, on_bad_image="skip", workers=1).batches(0), 1)


def test_samples_are_indexed_by_position_and_image(source):
    samples = SceneSamples(source, TrainScene(SceneConfig(min_size=[100], max_size=150)), 0, "error")
    assert samples[5, 2].scene.size == (150, 50) and samples[5, 2].name == "2.png"


def judged(source, **options):
    defaults = {"workers": 0, "batch": 4, "resize": partial(resize, short=100, long=150)}
    options = {**defaults, "shape": partial(rounded_up, divisor=32), **options}
    return list(evaluation_batches(source, device=CPU, notes=Notes([].append), **options))


@pytest.mark.parametrize("world", [1, 2, 3])
def test_evaluation_takes_every_image_once(source, world):
    shares = [judged(source, rank=rank, world=world) for rank in range(world)]
    indices = torch.cat([batch.indices for share in shares for batch in share])
    assert sorted(indices.tolist()) == list(range(22))
    assert all(batch.targets is None for share in shares for batch in share)


def test_evaluation_has_sizes_and_targets(source):
    for batch in judged(source, targets=TargetFormat(mask_size=14)):
        for slot, index in enumerate(batch.indices.tolist()):
            scale = batch.images.sizes[slot].flip(0).numpy() / source.sizes[index]
            boxes = batch.targets.boxes[slot][batch.targets.valid[slot]].numpy()
            original = boxes / np.tile(scale, 2)
            area = lambda boxes: (boxes[:, 2:] - boxes[:, :2]).prod(1)
            wanted = source.objects(index).boxes
            np.testing.assert_allclose(original, wanted[np.argsort(-area(wanted))], atol=1e-3)


def test_evaluation_without_losses_reports_nothing_about_objects():
    """Objects are then unused, so none are dropped."""
    samples = [Sample(boxes_scene(300), 0, "0.jpg"), Sample(None, 1, "1.jpg", "unreadable")]
    batch, notes = collate_evaluation(samples, SHAPE, None)
    assert batch.targets is None and batch.indices.tolist() == [0] and notes == ["unreadable"]
    batch, notes = collate_evaluation(samples, SHAPE, TargetFormat(100))
    assert batch.targets.boxes.shape == (1, 100, 4) and len(notes) == 2


@pytest.mark.parametrize("divisor", [1, 32])
def test_padding_is_to_multiples_of_a_divisor_and_floats_stay_floats(source, divisor):
    styled = partial(resize, short=100, long=150, style="torchvision")
    for batch in judged(source, resize=styled, shape=partial(rounded_up, divisor=divisor)):
        pixels, tallest = batch.images.pixels, batch.images.sizes.max(0).values
        assert pixels.dtype == torch.float32
        assert pixels.shape[2:] == tuple((np.ceil(tallest.numpy() / divisor) * divisor).astype(int).tolist())


def test_evaluation_leaves_out_unreadable_images(source):
    with pytest.raises(DataError, match="9.png"):
        judged(lost(source))
    for size in (4, 1):  # a part of a batch, and a whole batch
        batches = list(judged(source, on_bad_image="skip", batch=size))
        indices = [index for batch in batches for index in batch.indices.tolist()]
        assert sorted(indices) == [i for i in range(22) if i != 9]
        assert all(len(batch.indices) == len(batch.images.sizes) for batch in batches)
        assert all((batch.images.sizes > 0).all() for batch in batches)


def test_mixed_proportions_of_a_few_images(fakes, rng):
    """With fewer images than a batch, in both orientations, each step has all images."""
    few = fakes.Source([fakes.make(rng, *size) for size in [(160, 120), (120, 160), (300, 100)]])
    for batch in take(loader(few).batches(0), 3):
        assert set(batch.indices.tolist()) == {0, 1, 2}
        assert batch.images.pixels.shape[2:] == (160, 160)


def test_no_objects(fakes, rng):
    objects = Objects(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool), [])
    empty = fakes.Source([(np.zeros((40, 50, 3), np.uint8), objects)] * 5)
    augment = SceneConfig(min_size=[40], max_size=60, crop=1.0, mosaic=0.5, copy_paste=1.0)
    for batch in take(loader(empty, augment=augment).batches(0), 3):
        assert not batch.targets.valid.any() and (batch.images.sizes > 0).all()  # a real image of background
