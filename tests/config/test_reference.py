"""Tests that docs/config.md and `resdet config --explain` list every key with its default and meaning."""

import json
from dataclasses import make_dataclass
from pathlib import Path

from resdet import config
from resdet.cli import main
from resdet.config.experiment import experiments
from resdet.config.json_schema import json_schema
from resdet.config.meanings import meaning_of
from resdet.config.reference import sections
from resdet.config.settings import get
from resdet.data.config import formats

PAGE = Path(__file__).parents[2] / "docs/config.md"
OPTIONAL = {"model": {"mask": {}, "keypoint": {}}, "alternating": {}}  # sections that are null by default
DATA = {  # {(task, data set): default settings} for all data sets that a task accepts
    (task, name): config.to_dict(
        config.from_dict({"task": task, "data": name, **(OPTIONAL if task == "detection" else {})})
    )
    for task in experiments
    for name in formats
    if issubclass(formats[name], experiments[task].data_kinds)
}
KEYS = [key for section in sections() for key in section.keys]


def flat(settings: dict, prefix: str = "") -> dict:
    found = {}
    for key, value in settings.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def test_the_page_is_current(capsys):
    assert main(["config", "--explain", "--markdown"]) == 0
    assert capsys.readouterr().out == PAGE.read_text(encoding="utf-8"), (
        "run `resdet config --explain --markdown > docs/config.md`"
    )


def test_every_key_of_every_task_is_listed():
    listed = {key.key for key in KEYS}
    assert len(DATA) == 5 + 7 + 2 * 2
    for settings in DATA.values():
        assert {*flat(settings)} <= listed
    for name in ("plain18", "vgg16", "cifar_resnet20", "timm/resnet18"):
        model = config.to_dict(config.from_dict({"task": "classification", "model": {"backbone": name}}))["model"]
        assert {*flat({"model": model})} <= listed


def test_every_key_has_a_meaning():
    assert len(KEYS) > 250
    assert [key.key for key in KEYS if len(key.meaning.split()) < 2 or "|" in key.meaning] == []


def test_defaults_equal_those_of_an_empty_config():
    checked = 0
    for key in KEYS:
        section, _, last = key.key.rpartition(".")
        for user, default in key.defaults.items():
            for (task, name), settings in DATA.items():
                values = get(settings, section) if user in (task, name) and key.key != "data.name" else None
                if isinstance(values, dict) and last in values and not isinstance(values[last], dict):
                    assert values[last] == (list(default) if isinstance(default, tuple) else default), key.key
                    checked += 1
    (names,) = (key.defaults for key in KEYS if key.key == "data.name")
    assert names == {task: config.from_dict({"task": task}).data.name for task in experiments} and checked > 400


def test_explain_prints_a_key_or_a_section_and_corrects_typos(capsys):
    assert main(["config", "--explain", "eval.batch"]) == 0
    printed = capsys.readouterr().out
    assert "default 256 (classification), 1 (detection)" in printed and "default 64" in printed
    assert main(["config", "--explain", "train.ddp", "--json", "-"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["key"] for row in rows} == {f"train.ddp.{key}" for key in get(DATA["detection", "coco"], "train.ddp")}
    assert all(row["meaning"] for row in rows)
    assert main(["config", "--explain", "optim.lrr"]) == 2
    assert "there is no key optim.lrr: did you mean lr?" in capsys.readouterr().err
    assert main(["config", "--explain", "optm.lr"]) == 2
    assert "there is no key optm.lr: did you mean optim.lr?" in capsys.readouterr().err
    assert main(["config", "--explain", "seed"]) == 2
    assert "there is no key seed: did you mean data.seed or train.seed?" in capsys.readouterr().err
    assert main(["config", "--explain", "optim.learningrate"]) == 2  # similar to no key but by its section
    assert "there is no key optim.learningrate: the keys here are name, lr, base_batch, " in capsys.readouterr().err
    assert main(["config", "--markdown", "--schema"]) == 2


def test_the_json_schema_contains_the_meanings():
    definitions = json_schema()["$defs"]
    lr = definitions["OptimConfig"]["properties"]["lr"]
    assert lr["description"] == "learning rate" and lr["type"] == "number"
    assert "images" in definitions["DetectionEvalConfig"]["properties"]["batch"]["description"]  # from a base class
    # A comment on the lines above the field:
    assert "maps of the RPN" in definitions["DetectorConfig"]["properties"]["features"]["description"]


def test_a_class_without_source_has_no_meanings():
    assert meaning_of(make_dataclass("Mine", [("key", int, 1)]), "key") == ""
