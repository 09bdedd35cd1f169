"""Provides a folder of photographs."""

import cv2
import numpy as np
import pytest

from resdet import hub

SIZES = [(48, 64), (64, 48), (40, 40), (48, 64), (70, 30), (48, 64), (33, 64)]


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Writes images to a folder and a subfolder, two of them damaged."""
    monkeypatch.setattr(hub, "load", hub.load)
    (tmp_path / "net.pth").write_bytes(b"weights")
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number, size in enumerate(SIZES):
        place = folder / "more" if number % 3 == 0 else folder
        cv2.imwrite(str(place / f"{number}.png"), rng.integers(256, size=(*size, 3), dtype=np.uint8))
    (folder / "4a.jpg").write_bytes(b"\xff\xd8\xff damaged")
    (folder / "empty.png").write_bytes(b"")
    (folder / "notes.txt").write_text("no image")
    return folder
