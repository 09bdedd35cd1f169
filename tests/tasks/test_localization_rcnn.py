"""Tests the cached proposals of a training set: coordinates, several processes and damaged images."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from localization.test_rpn_model import SMALL, build
from painted import Painted

from resdet import config
from resdet.data.loader import Notes
from resdet.engine.distributed import World
from resdet.errors import ConfigError, DataError
from resdet.localization import rcnn_training
from resdet.localization.data.proposals import ProposalFiles
from resdet.localization.locate import Locator
from resdet.localization.rcnn_training import RegionTraining

WORDS = [word for word in SMALL if not word.startswith("model.rpn")]
WORDS += ["data.workers=0", "eval.candidates=60", "eval.proposals=10", "eval.testing=dense"]


class Damaged(Painted):
    def image(self, i):
        if i == 2:
            raise DataError("image 2 is cut short: delete it")
        return super().image(i)


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Returns a factory of the `RegionTraining` of one of several processes."""
    monkeypatch.setattr(rcnn_training, "POLL_INTERVAL", 0.01)
    (tmp_path / "rpn.pth").write_bytes(b"weights")

    def training(source, rank=0, size=1, *overrides):
        words = [*WORDS, f"model.proposer={tmp_path / 'rpn.pth'}", *overrides]
        experiment = config.load("shapes_loc_rcnn_r18", *words)
        world = World(rank, size, torch.device("cpu"))
        return RegionTraining(build(), source, experiment, world, Notes(lambda text: None))

    return training


def test_proposals_are_for_the_class_of_the_image(make):
    """Compares proposals with the RPN's for the label, and checks that they are scaled to the annotated image size."""
    source = Painted.random(5)
    files = make(source).proposals()
    source.sizes = source.sizes * 3
    thrice = make(source, 0, 1, "eval.nms=0.71").proposals()  # another setting forces recomputation
    locator = Locator([build().eval()], config.load("shapes_loc_rcnn_r18", *WORDS).eval)
    for i in range(5):
        with torch.inference_mode():
            views, sizes = locator.build_views(source.image(i)), torch.tensor([[48.0, 48.0]])
            found = locator.propose(views, sizes, torch.tensor([[int(source.labels[i])]]))
        expected = found.boxes[0][found.valid[0]].numpy()
        np.testing.assert_allclose(files[i], expected, atol=0.05)
        assert len(thrice[i]) and thrice[i].max() > 48 and (thrice[i] <= 144).all()


def test_processes_share_the_work(make, tmp_path):
    """Checks the images that each of two processes computes; compares the proposals with those of one process."""
    source = Painted.random(7)
    parts = [make(source, rank, 2, f"model.cache={tmp_path / 'two'}") for rank in range(2)]
    worked = []
    for part in parts:
        part.fill = lambda files, mine, fill=part.fill: (worked.append(mine.tolist()), fill(files, mine))
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda part: part.proposals(), parts))
    assert sorted(worked) == [[0, 2, 4, 6], [1, 3, 5]]
    alone = make(source, 0, 1, f"model.cache={tmp_path / 'one'}").proposals()
    for i in range(7):
        np.testing.assert_allclose(both[0][i], alone[i], atol=0.05)
        np.testing.assert_array_equal(both[0][i], both[1][i])


@pytest.mark.parametrize(
    "override",
    ["eval.testing=center", "eval.scales=[48,56]", "eval.candidates=61", "eval.nms=0.71", "eval.proposals=11"],
)
def test_other_settings_have_separate_proposals(make, override):
    source = Painted.random(1)
    assert make(source).proposals().folder != make(source, 0, 1, override).proposals().folder


def test_one_of_several_machines_does_not_compute_proposals(make, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    with pytest.raises(ConfigError, match="3 of 3 training images lack proposals .*: train on one machine first"):
        make(Painted.random(3), 0, 2).proposals()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    make(Painted.random(3)).proposals()
    assert not len(make(Painted.random(3), 1, 2).proposals().missing())


def test_no_positive_regions_are_drawn_at_a_share_of_0(make):
    batch = next(make(Painted.random(4), 0, 1, "train.batch=8", "model.positive_fraction=0").batches(0))
    assert batch.targets.labels.tolist() and not batch.targets.positive.any()


def test_damaged_images_have_no_proposals(make):
    source = Damaged.random(4)
    with pytest.raises(DataError, match="image 2 is cut short"):
        make(source).proposals()
    files: ProposalFiles = make(source, 0, 1, "data.on_bad_image=skip").proposals()
    assert [len(files[i]) > 0 for i in range(4)] == [True, True, False, True]
    batch = next(make(source, 0, 1, "data.on_bad_image=skip", "train.batch=4").batches(0))
    assert all((label == -1) == (index == 2) for label, index in zip(batch.targets.labels, batch.indices))
