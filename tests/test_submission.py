"""Tests the submission file for the ILSVRC server against predictions computed here, with a miniature devkit."""

import cv2
import numpy as np
import pytest
import torch
from scipy.io import savemat

import resdet
from resdet.images.crops import center_crop
from resdet.images.decode import as_image

SYNSETS = [f"n{number:08d}" for number in range(6)]  # in the order of the model's classes
IDS = {"n00000000": 4, "n00000001": 2, "n00000002": 6, "n00000003": 1, "n00000004": 5, "n00000005": 3}  # the devkit's


@pytest.fixture
def root(tmp_path):
    """Writes four test images and the devkit of a miniature ILSVRC."""
    data = tmp_path / "imagenet/ILSVRC2012_devkit_t12/data"
    data.mkdir(parents=True)
    fields = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    rows = [(float(number), synset, f"words of {synset}", 0.0) for synset, number in IDS.items()]
    savemat(data / "meta.mat", {"synsets": np.array(rows, fields).reshape(-1, 1)})
    folder = tmp_path / "imagenet/test"
    folder.mkdir()
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (50, 60, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"ILSVRC2012_test_{number + 1:08d}.JPEG"), pixels)
    return tmp_path / "imagenet"


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    model = resdet.build(
        "imagenet_r18", "model.num_classes=6", "data.size=32", "data.short=36", "data.workers=0"
    ).eval()
    model.backbone.fc.weight.data *= 30
    model.classes = SYNSETS
    content = {"model": model.state_dict(), "experiment": model.experiment, "classes": SYNSETS}
    torch.save(content, tmp_path / "net.pth")
    return model


def test_a_submission(tmp_path, root, model, command):
    done = command("evaluate", "--weights", "net.pth", f"data.root={root}", "--submission", "sub.txt")
    assert done.returncode == 0, done.stderr
    expected = []
    for path in sorted((root / "test").iterdir()):
        crop = torch.from_numpy(np.ascontiguousarray(center_crop(as_image(path), 36, 32))).permute(2, 0, 1)[None]
        with torch.no_grad():
            best = model(crop)[0].topk(5).indices.tolist()
        expected.append(" ".join(str(IDS[SYNSETS[label]]) for label in best))
    assert (tmp_path / "sub.txt").read_text().splitlines() == expected


def test_a_submission_without_the_devkit(tmp_path, root, model, command):
    (root / "ILSVRC2012_devkit_t12/data/meta.mat").unlink()
    done = command("evaluate", "--weights", "net.pth", f"data.root={root}", "--submission", "sub.txt")
    assert done.returncode == 2 and "meta.mat" in done.stderr
    assert not (tmp_path / "sub.txt").exists()
