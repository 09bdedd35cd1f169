"""The keys of augmentation: errors name the invalid key, and the module imports quickly."""

import subprocess
import sys

import pytest

from resdet.detection.data.augment_config import SceneConfig
from resdet.errors import ConfigError


@pytest.mark.parametrize(
    "key, value",
    [
        ("flip", 1.5),
        ("vertical_flip", -0.5),
        ("mosaic", -0.1),
        ("crop", 2),
        ("copy_paste", 1.1),
        ("crop_range", (0.0, 1.0)),
        ("crop_range", (0.9, 0.5)),
        ("min_size", []),
        ("min_size", [0]),
        ("max_size", 700),
        ("scale_jitter", (2.0, 0.1)),
        ("scale_jitter", (0.0, 1.0)),
        ("jitter_size", 0),
        ("pca_color", -1.0),
        ("min_size_sampling", "range"),
    ],
)
def test_errors_name_the_key(key, value):
    with pytest.raises(ConfigError, match=f"data.augment.{key} is "):
        SceneConfig(**{key: value})


def test_limits():
    assert SceneConfig(min_size=[640, 800]).limits() == (800, 1333)
    assert SceneConfig(min_size=[640, 800], min_size_sampling="range", max_size=1000).limits() == (800, 1000)
    assert SceneConfig(scale_jitter=(0.1, 2.0), jitter_size=512).limits() == (512, 512)


def test_the_import_loads_no_heavy_modules():
    code = "import sys, resdet.detection.data.augment_config as _; "
    code += "print([m for m in ('torch', 'numpy', 'cv2') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
