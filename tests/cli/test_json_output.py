"""Tests `--json`, which writes to a file, or to stdout in place of the tables."""

import json

import pytest

from resdet import config
from resdet.cli import main


def printed(capsys, *words) -> tuple[object, str]:
    """Returns the JSON on stdout, and the text on stderr."""
    assert main([str(word) for word in words]) == 0
    captured = capsys.readouterr()
    return json.loads(captured.out), captured.err


@pytest.mark.parametrize("words", [["--json"], ["--json", "-"]])
def test_json_of_a_config(capsys, words):
    content, told = printed(capsys, "config", "--config", "shapes_resnet20", "optim.lr=3", *words)
    assert content == config.to_dict(config.load("shapes_resnet20", "optim.lr=3"))
    assert "lr: 3.0" in told


def test_json_to_a_file_keeps_the_table_on_stdout(capsys, tmp_path):
    file = tmp_path / "new/nets.json"
    assert main(["nets", "resnet18", "--json", str(file)]) == 0
    captured = capsys.readouterr()
    assert "11,689,512" in captured.out and captured.err == ""
    assert printed(capsys, "nets", "resnet18", "--json")[0] == json.loads(file.read_text())


def test_json_of_evaluated_results(capsys, results):
    content, told = printed(capsys, "evaluate", *results, "--json")
    assert content["AP"] == pytest.approx(1) and "| AP | AP50 |" in told


def test_json_of_the_rows_of_a_table(capsys):
    rows, told = printed(capsys, "reproduce", "table6", "--list", "--json")
    assert [row["row"] for row in rows][:2] == ["table6/resnet20", "table6/resnet32"]
    assert rows[0]["paper"] == {"error": 8.75} and rows[0]["needs"] == ["cifar10"] and "steps" in rows[0]["cost"]
    assert "| table6/resnet20 |" in told


def test_json_of_a_dry_run(capsys, tmp_path):
    plan, told = printed(
        capsys, "reproduce", "table13", "--row", "classes", "--dry-run", "--data", tmp_path, "--json", "-"
    )
    names = [step["name"] for step in plan["trainings"]]
    assert "imagenet_loc_r101" in names and plan["missing"] and "# cost" in told
    assert all(step["command"].startswith("resdet ") for step in (*plan["trainings"], *plan["tests"]))


def test_json_of_a_generated_data_set(capsys, tmp_path):
    words = ["data", "make", "shapes", tmp_path / "shapes", "--train", 10, "--val", 10, "--size", 32, "--json"]
    content, told = printed(capsys, *words)
    assert content == {
        "name": "shapes", "root": str(tmp_path / "shapes"), "train": 10, "val": 10, "size": 32, "seed": 0
    }  # fmt: skip
    assert "10 + 10 images" in told


def test_json_of_a_converted_detectron2_config(capsys, tmp_path):
    (tmp_path / "theirs.yaml").write_text("MODEL: {META_ARCHITECTURE: GeneralizedRCNN}\n")
    content, _ = printed(capsys, "config", "--from-detectron2", tmp_path / "theirs.yaml", "--json")
    assert content["settings"]["task"] == "detection" and isinstance(content["left_out"], list)


def test_json_of_the_schema(capsys):
    assert printed(capsys, "config", "--schema")[0]["$defs"]["OptimConfig"]["properties"]["lr"]["type"] == "number"


@pytest.mark.parametrize(
    "word, sentence",
    [
        ("optim.lr=3", "optim.lr=3 is a setting, not a file: write `--json -` before it"),
        ("a.jpg", "a.jpg exists and is not a .json file: write `--json -` before other words"),
    ],
)
def test_a_following_override_or_image_is_not_parsed_as_the_json_file(word, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jpg").write_bytes(b"image")
    with pytest.raises(SystemExit):
        main(["evaluate", "--weights", "none.pth", "--json", word])
    assert sentence in capsys.readouterr().err and (tmp_path / "a.jpg").read_bytes() == b"image"


def test_an_error_prints_no_json(capsys):
    assert main(["config", "--config", "nowhere", "--json"]) == 2
    assert capsys.readouterr().out == ""
