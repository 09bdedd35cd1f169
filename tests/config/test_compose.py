"""Tests experiments loaded from YAML files and overrides, with bases, sections, aliases and round trips."""

import pytest
from config_errors import refused

from resdet import config
from resdet.backbones.config import CifarNetConfig, ResNetConfig, VGGConfig, family
from resdet.classification.data.config import ImageNetConfig, TinyShapesConfig
from resdet.detection.config import PartConfig
from resdet.detection.data.config import SplitConfig
from resdet.detection.heads.config import MaskConfig


def test_a_config_is_named_after_its_file_and_has_the_defaults_of_the_paper(write):
    """Checks section 3.4 of the paper: SGD from 0.1, momentum 0.9, weight decay 0.0001, batches of 256."""
    experiment = config.load(write(""))
    assert experiment.name == "mine" and experiment.task == "classification"
    assert isinstance(experiment.model.backbone, ResNetConfig) and isinstance(experiment.data, ImageNetConfig)
    optim = experiment.optim
    assert (optim.name, optim.lr, optim.momentum, optim.weight_decay) == ("sgd", 0.1, 0.9, 1e-4)
    assert experiment.train.batch == 256
    assert config.load(write("name: other\n")).name == "other"


def test_bases_are_applied_first_in_order(write):
    write("optim: {lr: 1.0, momentum: 0.5}\ntrain: {batch: 8}\n", "ground.yaml")
    write("_base_: ground.yaml\noptim: {lr: 2.0}\n", "middle.yaml", task="")
    write("train: {batch: 16}\nname: side\n", "side.yaml", task="")
    experiment = config.load(write("_base_: [middle.yaml, side.yaml]\noptim: {weight_decay: 0}\n", task=""))
    assert (experiment.optim.lr, experiment.optim.momentum, experiment.optim.weight_decay) == (2.0, 0.5, 0.0)
    assert experiment.train.batch == 16 and experiment.name == "side"


def test_bases_are_found_relative_to_the_file_and_in_configs(write):
    write("optim: {lr: 3.0}\n", "deep/ground.yaml")
    write("_base_: ground.yaml\n", "deep/middle.yaml", task="")
    assert config.load(write("_base_: deep/middle.yaml\n", task="")).optim.lr == 3.0
    experiment = config.load(write("_base_: shapes_resnet20.yaml\noptim: {lr: 4.0}\n", task=""))
    assert experiment.optim.lr == 4.0 and experiment.data.name == "tiny_shapes"


@pytest.mark.parametrize("steps", [["a.yaml"], ["b.yaml", "a.yaml"]])
def test_circular_bases_are_rejected(write, steps):
    for name, base in zip(["a.yaml", *steps], steps):
        path = write(f"_base_: {base}\n", name)
    assert "form a cycle" in refused(path)


def test_the_same_base_twice_is_accepted(write):
    write("optim: {lr: 3.0}\n", "ground.yaml")
    for name in ("a.yaml", "b.yaml"):
        write("_base_: ground.yaml\n", name, task="")
    assert config.load(write("_base_: [a.yaml, b.yaml]\n", task="")).optim.lr == 3.0


@pytest.mark.parametrize(
    "override, key, value",
    [
        ("optim.lr=1e-4", "optim.lr", 1e-4),
        ("optim.lr=2", "optim.lr", 2.0),
        ("optim.lr=.5", "optim.lr", 0.5),
        ("optim.nesterov=true", "optim.nesterov", True),
        ("train.ema=0.99", "train.ema", 0.99),
        ("optim.clip_norm=null", "optim.clip_norm", None),
        ("train.precision=bf16", "train.precision", "bf16"),
        ("data.root=no", "data.root", "no"),
        ("name=yes", "name", "yes"),
        ("name=on", "name", "on"),
        ("name=2012", "name", "2012"),
        ("name=a=b", "name", "a=b"),
        ("name=007", "name", "007"),
        ("name=1e3", "name", "1000.0"),
        ("name=2012-01-31", "name", "2012-01-31"),
        ("name=12:30", "name", "12:30"),
        ("name=${optim.lr}", "name", "${optim.lr}"),
        ("name=" + 30 * "9", "name", 30 * "9"),
        ("train.length=64_000", "train.length", 64000.0),
        ("train.seed=3", "train.seed", 3),
        ("schedule.milestones.-1=70", "schedule.milestones", [30, 70]),
        ("data.root='with space'", "data.root", "with space"),
        ("schedule.milestones=[1,2.5]", "schedule.milestones", [1.0, 2.5]),
        ("schedule.milestones=[]", "schedule.milestones", []),
        ("schedule.milestones.1=70", "schedule.milestones", [30, 70]),
        ("schedule.milestones[0]=20", "schedule.milestones", [20, 60]),
        ("optim.betas=[0.8,0.9]", "optim.betas", (0.8, 0.9)),
        ("optim.betas.0=0.8", "optim.betas", (0.8, 0.999)),
        ("optim.betas[1]=0.99", "optim.betas", (0.9, 0.99)),
        ("data.augment.short=[300,400]", "data.augment.short", (300, 400)),
    ],
)
def test_overrides(write, override, key, value):
    path = write("schedule: {milestones: [30, 60]}\n")
    found = config.load(path, override)
    for part in key.split("."):
        found = getattr(found, part)
    assert type(found) is type(value) and found == value


def test_the_last_override_wins(write):
    assert config.load(write("optim: {lr: 3}\n"), "optim.lr=4", "optim.lr=5").optim.lr == 5.0


@pytest.mark.parametrize(
    "text, value",
    [
        ("1e-4", 1e-4),
        ("1E3", 1e3),
        ("+1.5e+2", 150.0),
        ("-.5", -0.5),
        ("2.", 2.0),
        (".inf", float("inf")),
        ("-12", -12),
    ],
)
def test_numbers_are_parsed(text, value):
    """Checks forms that YAML 1.1 parses as text, such as 1e-4."""
    key, found = config.parse_override(f"optim.lr={text}")
    assert key == "optim.lr" and type(found) is type(value) and found == value


@pytest.mark.parametrize(
    "text", ["no", "yes", "on", "off", "y", "1e", "e4", "1.2.3", "2.5d_scans", "true_colour", "falsetto"]
)
def test_words_are_parsed_as_text(write, text):
    assert config.load(write(f"name: {text}\n")).name == text
    assert config.load(write(""), f"name={text}").name == text


@pytest.mark.parametrize("text", ["model: {backbone: vgg16}\n", "model: {backbone: {name: vgg16}}\n"])
def test_a_name_abbreviates_a_section(write, text):
    assert config.load(write(text)).model.backbone == VGGConfig(name="vgg16")
    assert config.load(write(text), "model.backbone=resnet18").model.backbone == ResNetConfig(name="resnet18")
    assert config.load(write(text + "data: tiny_shapes\n")).data == TinyShapesConfig(name="tiny_shapes")
    assert config.load(write(text), "data=tiny_shapes", "data.seed=4").data.seed == 4


def test_changing_the_family_resets_its_options(write):
    write(
        "model: {backbone: {name: resnet50, shortcut: C, norm: gn}}\ndata: {name: imagenet, size: 128}\n", "ground.yaml"
    )
    child = write("_base_: ground.yaml\nmodel: {backbone: {name: vgg16, dropout: 0}}\n", task="")
    assert config.load(child).model.backbone == VGGConfig(name="vgg16", dropout=0.0)
    experiment = config.load(child, "model.backbone=cifar_resnet20", "data=tiny_shapes")
    assert experiment.model.backbone == CifarNetConfig(name="cifar_resnet20")
    assert experiment.data == TinyShapesConfig(name="tiny_shapes")


@pytest.mark.parametrize(
    "dicts, words",
    [
        (["model.backbone={name: vgg16, dropout: 0.2}"], ["model.backbone=vgg16", "model.backbone.dropout=0.2"]),
        (["model={backbone: {name: timm/x}}"], ["model.backbone=timm/x"]),
        (["model={backbone: vgg16}"], ["model.backbone=vgg16"]),
        (["data={name: folder, root: X}"], ["data=folder", "data.root=X"]),
        (["data={name: tiny_shapes}", "data.seed=4"], ["data=tiny_shapes", "data.seed=4"]),
        (["model.backbone={name: vgg16}", "model.backbone=resnet18"], ["model.backbone=resnet18"]),
        (["model.backbone={name: resnet18}"], ["model.backbone=resnet18"]),
    ],
)
def test_names_in_nested_overrides_select_the_family(write, dicts, words):
    """Compares overrides that contain a name at any depth with separate overrides."""
    path = write("model: {backbone: {name: resnet50, shortcut: C}}\ndata: {name: imagenet, size: 128}\n")
    found = config.load(path, *dicts)
    assert found == config.load(path, *words)
    assert type(found.model.backbone) is family(found.model.backbone.name)
    assert config.from_dict(config.to_dict(config.load(path)), overrides=tuple(dicts)) == found


def test_changing_the_name_within_a_family_keeps_the_options(write):
    write("model: {backbone: {name: resnet50, shortcut: C}}\n", "ground.yaml")
    child = write("_base_: ground.yaml\nmodel: {backbone: resnet101}\n", task="")
    assert config.load(child).model.backbone == ResNetConfig(name="resnet101", shortcut="C")
    assert config.load(child, "model.backbone=resnet18").model.backbone == ResNetConfig(name="resnet18", shortcut="C")


def test_an_alias_is_a_copy(write):
    text = "optim: &a {lr: 1, momentum: 0.5}\nalternating: null\nname: &b mine\ndata: {name: folder, root: *b}\n"
    experiment = config.load(write(text.replace("alternating: null\n", "")))
    assert experiment.optim.lr == 1 and experiment.data.root == "mine"
    merged = "optim:\n  <<: [{lr: 3}, {lr: 4, momentum: 0.1}]\n  momentum: 0.2\n"
    experiment = config.load(write(merged))
    assert (experiment.optim.lr, experiment.optim.momentum) == (3, 0.2)


@pytest.mark.parametrize("bomb", ["[*{0}, *{0}]", "{{<<: [*{0}, *{0}], {1}: 1}}"])
def test_exponentially_expanding_aliases_are_rejected(write, bomb):
    """Builds aliases that each refer to the previous one twice: 2^30 values."""
    lines = ["a0: &a0 {x: 1}"] + [f"a{n}: &a{n} {bomb.format(f'a{n - 1}', f'k{n}')}" for n in range(1, 30)]
    message = refused(write("\n".join(lines)))
    assert "more than 10000 values" in message or "nested" in message


def test_too_many_bases_are_rejected(write):
    for n in range(12):
        write(f"_base_: [{n + 1}.yaml, {n + 1}.yaml]\n", f"{n}.yaml")
    write("", "12.yaml")
    assert "more than 100 _base_ files" in refused(write("_base_: 0.yaml\n", task=""))


def test_a_null_section_is_filled_with_its_defaults(write):
    path = write("model: {mask: {width: 3}}\nalternating: {regions: {length: 5}}\n", task="task: detection\n")
    experiment = config.load(path)
    assert experiment.model.mask == MaskConfig(width=3)
    assert experiment.alternating.regions == PartConfig(batch=16, length=5)
    assert config.load(path, "model.mask=null").model.mask is None
    experiment = config.load(path, "data.train.images=mine")
    assert experiment.data.train == SplitConfig("mine", "annotations/instances_train2017.json")


@pytest.mark.parametrize("text", ["", "# nothing\n", "optim: {lr: 1}\n"])
def test_a_file_without_a_task_is_rejected(write, text):
    assert "names no task" in refused(write(text, task=""))


@pytest.mark.parametrize("text", ["[1, 2]\n", "just words\n", "3\n"])
def test_a_file_that_is_not_a_mapping_is_rejected(write, text):
    assert "mapping" in refused(write(text, task=""))


def test_a_file_that_is_not_text_is_rejected(write, tmp_path):
    (tmp_path / "picture.yaml").write_bytes(b"\xff\xd8\xff\xe0 task")
    assert "picture.yaml" in refused(tmp_path / "picture.yaml")


def test_names_without_extension_and_suggestions_for_typos():
    assert config.load("shapes_resnet20") == config.load("shapes_resnet20.yaml")
    assert "did you mean shapes_resnet20.yaml?" in refused("shape_resnet20.yaml")
    assert "shapes_resnet20" in refused("xyz.yaml")


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["model.backbone=vgg16", "model.backbone.norm=bn", "optim.betas=[0.8,0.9]", "schedule.milestones=[1,2.5]"],
        ["data=folder", "data.root=a b", "name=no", "train.ema=0.9999", "optim.weight_decay=1e-5"],
        ["name=1e-4", "data.root=2012-01-31", "train.device='007'"],
        ["model.backbone=timm/convnext_atto", "data=cifar10", "train.device=cuda:1", "schedule.final=0"],
    ],
)
def test_round_trips(write, overrides):
    experiment = config.load(write(""), *overrides)
    assert config.from_dict(config.to_dict(experiment)) == experiment
    assert config.from_dict(config.plain(config.to_dict(experiment))) == experiment
    assert config.load(write(config.to_yaml(experiment), "again.yaml", task="")) == experiment
