"""Tests which words of a command are overrides and which are paths."""

import pytest

from resdet.cli import main, parse
from resdet.commands.predict import sort_words
from resdet.config import is_override
from resdet.errors import ConfigError


@pytest.mark.parametrize(
    "word, expected",
    [
        ("optim.lr=0.1", True),
        ("data=coco", True),
        ("name=a/b", True),
        ("model.backbone={name: vgg16}", True),
        ("data.augment.short[0]=3", True),
        ("schedule.milestones.0=3", True),
        ("alternating=null", True),
        ("runs/lr=0.1/best.pth", False),
        ("lr=0.1.pth", False),
        ("optimizer=sgd/best.pth", False),
        ("best.pth", False),
        ("data", False),
        ("=3", False),
    ],
)
def test_an_override_begins_with_a_section(word, expected):
    assert is_override(word) is expected


def test_an_existing_file_is_not_an_override(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_override("name=a.pth")
    (tmp_path / "name=a.pth").touch()
    assert not is_override("name=a.pth")


def test_a_path_with_an_equals_sign_is_weights(capsys):
    """Checks that runs/lr=0.1/best.pth is used as weights instead of being dropped as an override."""
    words = ["evaluate", "--weights", "runs/lr=0.1/best.pth", "eval.batch=3"]
    assert main(words) == 2
    assert capsys.readouterr().err.startswith("resdet: runs/lr=0.1/best.pth")
    assert main(["evaluate", "--weights", "optim.lr=3"]) == 2
    assert "Nothing to evaluate: give --weights" in capsys.readouterr().err


def test_words_of_predict_are_sorted_by_kind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["runs/lr=0.1/best.pth", "shots/iso=100.jpg", "eval.score=0.3"]
    weights, images, overrides = sort_words(words, ["a=b.jpg", "eval.nms=0.5"])
    assert weights == ["runs/lr=0.1/best.pth"] and images == ["a=b.jpg", "shots/iso=100.jpg"]
    assert overrides == ["eval.score=0.3", "eval.nms=0.5"]
    with pytest.raises(ConfigError, match="not data.root=x"):
        sort_words(["best.pth"], ["data.root=x"])


def test_an_override_may_stand_anywhere():
    parsed = parse(["train", "--config", "shapes_resnet20", "optim.lr=1", "--out", "runs/a=b", "optim.momentum=0"])
    assert parsed.overrides == ["optim.lr=1", "optim.momentum=0"] and parsed.out == "runs/a=b"
