"""Checks that batches do not depend on the number of workers, and that damaged images are errors or counted."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from torch.distributed import FileStore, HashStore

from resdet.classification.data.augment_config import AugmentConfig
from resdet.classification.data.loader import Samples, TrainingLoader
from resdet.classification.data.transforms import TrainTransform
from resdet.data.folder import ImageFolder
from resdet.data.loader import Loader, Notes, Skipped, worker_count
from resdet.data.shapes import ShapeImages
from resdet.engine.distributed import numbers_in
from resdet.errors import DataError

CPU = torch.device("cpu")


def loader(source, workers=0, on_bad_image="error", rank=0, world=1, said=None):
    transform = TrainTransform(AugmentConfig(short=(40, 60), policy="trivial"), 32)
    samples = Samples(source, transform, 7, 32, on_bad_image)
    skipped = Skipped((said if said is not None else []).append, set())
    return TrainingLoader(samples, 8, 1, workers, CPU, skipped, rank, world)


def take(batches, count):
    return [batch for _, batch in zip(range(count), batches)]


def assert_same(first, second):
    for one, other in zip(first, second, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other))


@pytest.mark.parametrize(
    "cores, processes, workers", [(1, 1, 1), (6, 1, 6), (64, 1, 8), (64, 8, 8), (16, 8, 2), (4, 8, 1)]
)
def test_processes_share_the_cores_of_a_machine(monkeypatch, cores, processes, workers):
    monkeypatch.setattr("resdet.data.loader.usable_cores", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert worker_count(-1) == workers
    assert worker_count(0) == 0 and worker_count(20) == 20


def test_batches_do_not_depend_on_workers_and_start():
    source = ShapeImages(20, 48, 0, "train")
    alone = take(loader(source).batches(0), 5)
    assert_same(alone, take(loader(source, workers=2).batches(0), 5))
    assert_same(alone[3:], take(loader(source).batches(3), 2))
    assert alone[0].images.shape == (8, 3, 32, 32) and alone[0].images.dtype == torch.uint8
    assert alone[0].images.is_contiguous(memory_format=torch.channels_last)


def test_two_processes_split_each_batch():
    source = ShapeImages(20, 48, 0, "train")
    whole = take(loader(source).batches(0), 3)
    halves = [take(loader(source, rank=rank, world=2).batches(0), 3) for rank in range(2)]
    for step in range(3):
        assert torch.equal(torch.cat([half[step].images for half in halves]), whole[step].images)


@pytest.fixture
def folder(tmp_path):
    """Writes six images of two classes, the last one truncated."""
    for index in range(6):
        path = tmp_path / "ab"[index % 2] / f"{index}.jpg"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), np.random.default_rng(index).integers(0, 256, (48, 64, 3), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:900])
    return tmp_path


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_an_error_that_names_it(folder, workers):
    with pytest.raises(DataError, match=r"b/5\.jpg.*on_bad_image") as error:
        take(loader(ImageFolder(folder), workers).batches(0), 2)
    assert "\n" not in str(error.value)  # a worker's traceback would have several lines


def test_a_damaged_image_is_skipped_and_counted(folder):
    said = []
    batches = take(loader(ImageFolder(folder), on_bad_image="skip", said=said).batches(0), 3)
    left_out = [index for batch in batches for index, label in zip(batch.indices, batch.targets) if label < 0]
    assert len(left_out) >= 3 and set(map(int, left_out)) == {5}
    assert len(said) == 1 and said[0].startswith("skipped image 1: ") and "5.jpg" in said[0]
    assert "on_bad_image" not in said[0]  # it is set


class Doubles(torch.utils.data.Dataset):
    def __getitem__(self, key):
        position, index = key
        return 2 * index, position


class Pairs(list):
    def to(self, device):
        return self


def collate(samples):
    return Pairs(samples), [f"{doubled} is large" for doubled, _ in samples if doubled > 18]


@pytest.mark.parametrize("world", [1, 2])
def test_custom_order_and_samples(world):
    said = []
    sampler = SimpleNamespace(row=lambda step: np.arange(4) + step, steps_per_epoch=3.5)
    loaders = [Loader(Doubles(), sampler, collate, 0, CPU, Notes(said.append), rank, world) for rank in range(world)]
    steps = [take(loader.batches(5), 3) for loader in loaders]
    for step in range(3):
        found = [pair for share in steps for pair in share[step]]
        assert found == [(2 * (5 + step + slot), 4 * (5 + step) + slot) for slot in range(4)]
    assert loaders[0].steps_per_epoch == 3.5
    assert said[:1] == ["note on the data 1: 20 is large"] and len(said) >= 1


def test_notes_of_several_processes_are_logged_once(tmp_path):
    """Uses two clients of a store instead of two processes."""
    said: list[str] = []
    stores = (FileStore(str(tmp_path / "store"), 2) for _ in range(2))
    first, second = (Skipped(said.append, number=numbers_in(store)) for store in stores)
    first.note(["a: cut short"])
    second.note(["a: cut short", "b: missing"])
    first.note(["b: missing", "a: cut short", "c: missing"])
    assert said == [f"skipped image {each}" for each in ("1: a: cut short", "2: b: missing", "3: c: missing")]


def test_notes_on_file_names_that_are_not_utf8_are_numbered():
    """Uses a byte that is not UTF-8, which Python reads as a lone surrogate and a store cannot encode."""
    said: list[str] = []
    skipped = Skipped(said.append, number=numbers_in(HashStore()))
    for name in ("\udce9.jpg", "\udcea.jpg", "\udce9.jpg"):
        skipped.note([f"{name}: cut short"])
    assert said == ["skipped image 1: \udce9.jpg: cut short", "skipped image 2: \udcea.jpg: cut short"]


def test_similar_notes_are_logged_once():
    """Logs one note per image, although augmentation changes the number in the note."""
    said = []
    notes = Notes(said.append)
    notes.note(["a has many: 500", "b has many: 400"])
    notes.note(["b has many: 390", "c is lost"])
    wanted = ["1: a has many: 500", "2: b has many: 400", "3: c is lost"]
    assert said == [f"note on the data {sentence}" for sentence in wanted]
