"""Tests the map-style datasets of `resdet.open_data` and the example of a custom training loop."""

import runpy

import numpy as np
import pytest
import torch
from narrow import narrow_resnets
from running import REPOSITORY

import resdet
from resdet.errors import ConfigError

SCENES = ("shapes_mask_r18_fpn", "train", "data.train_images=6", "data.val_images=4", "data.size=96")


def test_scenes(tmp_path):
    dataset = resdet.open_data(*SCENES, f"data.root={tmp_path / 'scenes'}")
    assert len(dataset) == 6 and len(dataset.classes) == 5
    for index, (image, target) in enumerate(dataset[i] for i in range(len(dataset))):
        boxes, masks = target["boxes"], target["masks"]
        assert image.dtype == torch.uint8 and image.shape[0] == 3 and target["image_id"].tolist() == [index]
        assert masks.shape == (len(boxes), *image.shape[1:])
        assert all(1 <= label <= 5 for label in target["labels"].tolist())
        for box, mask in zip(boxes, masks):  # the mask touches all sides of its box
            rows, columns = np.nonzero(mask.numpy())
            corners = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            assert torch.allclose(corners.float(), box, atol=1.5)
    flipped = resdet.open_data(
        *SCENES, f"data.root={tmp_path / 'scenes'}", transform=lambda image, target: (image.flip(2), target)
    )
    assert torch.equal(flipped[0][0], dataset[0][0].flip(2))


@pytest.mark.parametrize("name", ["shapes_r18", "shapes_resnet20"])
def test_images_with_a_label(name):
    dataset = resdet.open_data(name, "val", "data.val_images=3", transform=lambda image: image.float())
    image, label = dataset[2]
    assert len(dataset) == 3 and image.dtype == torch.float32 and image.shape[0] == 3
    assert label == 2 and len(dataset.classes) == 10


def test_localization_data_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="shape_loc, which has no map-style dataset"):
        resdet.open_data("shapes_loc_r18", "val", f"data.root={tmp_path}")


def test_custom_training_loop(tmp_path, monkeypatch, capsys):
    """Runs the example of the documentation with a narrow net."""
    monkeypatch.chdir(tmp_path)
    with narrow_resnets():
        runpy.run_path(str(REPOSITORY / "examples" / "own_loop.py"), run_name="__main__")
    said = capsys.readouterr().out
    assert said.count("step ") == 10 and "detection" in said.splitlines()[10]
