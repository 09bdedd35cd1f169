"""Experiments from YAML files and overrides, and the one sentence that each mistake gets."""

import copy
from pathlib import Path

import pytest
import torch

import resdet
from resdet import config
from resdet.backbones.config import CifarNetConfig, ResNetConfig, VGGConfig, family
from resdet.classification.data.config import ImageNetConfig, TinyShapesConfig
from resdet.detection.config import PartConfig
from resdet.detection.data.config import SplitConfig
from resdet.detection.heads.config import MaskConfig
from resdet.errors import ConfigError

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


@pytest.fixture
def write(tmp_path):
    """Writes a config; the task need not be said."""

    def to_file(text: str, name: str = "mine.yaml", task: str = "task: classification\n") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(task + text, encoding="utf-8")
        return path

    return to_file


def refused(path, *overrides: str) -> str:
    """The sentence; it is one line."""
    with pytest.raises(ConfigError) as caught:
        config.load(path, *overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_config_is_named_after_its_file_and_has_the_papers_defaults(write):
    """Section 3.4: SGD from 0.1, momentum 0.9, weight decay 0.0001, batches of 256."""
    experiment = config.load(write(""))
    assert experiment.name == "mine" and experiment.task == "classification"
    assert isinstance(experiment.model.backbone, ResNetConfig) and isinstance(experiment.data, ImageNetConfig)
    optim = experiment.optim
    assert (optim.name, optim.lr, optim.momentum, optim.weight_decay) == ("sgd", 0.1, 0.9, 1e-4)
    assert experiment.train.batch == 256
    assert config.load(write("name: other\n")).name == "other"


def test_bases_are_read_first_in_their_order(write):
    write("optim: {lr: 1.0, momentum: 0.5}\ntrain: {batch: 8}\n", "ground.yaml")
    write("_base_: ground.yaml\noptim: {lr: 2.0}\n", "middle.yaml", task="")
    write("train: {batch: 16}\nname: side\n", "side.yaml", task="")
    experiment = config.load(write("_base_: [middle.yaml, side.yaml]\noptim: {weight_decay: 0}\n", task=""))
    assert (experiment.optim.lr, experiment.optim.momentum, experiment.optim.weight_decay) == (2.0, 0.5, 0.0)
    assert experiment.train.batch == 16 and experiment.name == "side"


def test_a_base_is_found_beside_its_file_and_in_configs(write):
    write("optim: {lr: 3.0}\n", "deep/ground.yaml")
    write("_base_: ground.yaml\n", "deep/middle.yaml", task="")
    assert config.load(write("_base_: deep/middle.yaml\n", task="")).optim.lr == 3.0
    experiment = config.load(write("_base_: shapes_resnet20.yaml\noptim: {lr: 4.0}\n", task=""))
    assert experiment.optim.lr == 4.0 and experiment.data.name == "tiny_shapes"


@pytest.mark.parametrize("steps", [["a.yaml"], ["b.yaml", "a.yaml"]])
def test_bases_that_lead_in_a_circle(write, steps):
    for name, base in zip(["a.yaml", *steps], steps):
        path = write(f"_base_: {base}\n", name)
    assert "lead back to itself" in refused(path)


def test_the_same_base_twice_is_no_circle(write):
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
        ("train.seed=-3", "train.seed", -3),
        ("schedule.milestones.-1=70", "schedule.milestones", [30, 70]),
        ("data.root='with space'", "data.root", "with space"),
        ("schedule.milestones=[1,2.5]", "schedule.milestones", [1.0, 2.5]),
        ("schedule.milestones=[]", "schedule.milestones", []),
        ("schedule.milestones.1=70", "schedule.milestones", [30, 70]),
        ("schedule.milestones[0]=20", "schedule.milestones", [20, 60]),
        ("eval.scales.4=600", "eval.scales", [224, 256, 384, 480, 600]),
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
def test_numbers(text, value):
    """YAML 1.1 takes 1e-4 for text, which it never is here."""
    key, found = config.parse_override(f"optim.lr={text}")
    assert key == "optim.lr" and type(found) is type(value) and found == value


@pytest.mark.parametrize(
    "text", ["no", "yes", "on", "off", "y", "1e", "e4", "1.2.3", "2.5d_scans", "true_colour", "falsetto"]
)
def test_words_stay_words(write, text):
    assert config.load(write(f"name: {text}\n")).name == text
    assert config.load(write(""), f"name={text}").name == text


@pytest.mark.parametrize("text", ["model: {backbone: vgg16}\n", "model: {backbone: {name: vgg16}}\n"])
def test_a_name_is_short_for_its_section(write, text):
    assert config.load(write(text)).model.backbone == VGGConfig(name="vgg16")
    assert config.load(write(text), "model.backbone=resnet18").model.backbone == ResNetConfig(name="resnet18")
    assert config.load(write(text + "data: tiny_shapes\n")).data == TinyShapesConfig(name="tiny_shapes")
    assert config.load(write(text), "data=tiny_shapes", "data.seed=4").data.seed == 4


def test_naming_another_family_drops_the_options_of_the_former(write):
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
def test_names_inside_overrides_count(write, dicts, words):
    """Of whatever depth, as those that stand alone."""
    path = write("model: {backbone: {name: resnet50, shortcut: C}}\ndata: {name: imagenet, size: 128}\n")
    found = config.load(path, *dicts)
    assert found == config.load(path, *words)
    assert type(found.model.backbone) is family(found.model.backbone.name)
    assert config.from_dict(config.to_dict(config.load(path)), overrides=tuple(dicts)) == found


def test_naming_another_net_of_the_family_keeps_the_options(write):
    write("model: {backbone: {name: resnet50, shortcut: C}}\n", "ground.yaml")
    child = write("_base_: ground.yaml\nmodel: {backbone: resnet101}\n", task="")
    assert config.load(child).model.backbone == ResNetConfig(name="resnet101", shortcut="C")
    assert config.load(child, "model.backbone=resnet18").model.backbone == ResNetConfig(name="resnet18", shortcut="C")


@pytest.mark.parametrize(
    "override, words",
    [
        ("optim.lrr=1", ["override optim.lrr=1", "no key optim.lrr", "did you mean lr?"]),
        ("optm.lr=1", ["no key optm", "did you mean optim?"]),
        ("train.foo=1", ["train.foo", "the keys here are", "batch"]),
        ("model.backbone.dropout=1", ["model.backbone.dropout"]),
        ("optim.lr=fast", ['override optim.lr=fast: optim.lr is "fast"', "give a number"]),
        ("optim.lr=null", ["optim.lr is null", "give a number, as in 0.1."]),
        ("optim.lr=true", ["optim.lr is true", "give a number"]),
        ("optim.lr=.nan", ["optim.lr is NaN", "finite"]),
        ("optim.lr=1e999", ["optim.lr is Infinity", "finite"]),
        ("optim.lr=2001-13-01", ['optim.lr is "2001-13-01"', "give a number"]),
        ("optim.lr=!!int abc", ["override optim.lr=!!int abc", "'abc' is no int"]),
        ("optim.lr=!!python/name:os.system", ["the tag !!python/name:os.system has no meaning in a config"]),
        ("optim.clip_norm=a", ['optim.clip_norm is "a"', "give a number, as in 0.1, or null"]),
        ("optim.nesterov=yes", ['optim.nesterov is "yes"', "give true or false"]),
        ("optim.nesterov=1", ["optim.nesterov is 1", "give true or false"]),
        ("train.batch=1.5", ["train.batch=1.5", "give a whole number"]),
        ("train.batch=16.0", ["train.batch is 16.0", "give a whole number"]),
        ("train.batch=true", ["train.batch is true", "give a whole number"]),
        ("train.batch=[1]", ["train.batch is [1]", "give a whole number"]),
        ("train.precision=fp8", ["train.precision=fp8", "bf16"]),
        ("model.backbone.shortcut=D", ["shortcut=D", "choose 'A', 'B' or 'C'"]),
        ("optim=3", ["override optim=3: optim is 3: give a mapping of its keys (name, lr, base_batch,"]),
        ("data=3", ["override data=3: data is 3: give a mapping"]),
        ("model=[1]", ["model is [1]: give a mapping of its keys (backbone,"]),
        ("data.augment=${data.size}", ['data.augment is "${data.size}": give a mapping']),
        ("model.backbone=${a}", ["no backbone named '${a}'"]),
        ("data.root=", ["data.root is null", "give text"]),
        ("data.root=true", ["data.root is true", "give text"]),
        ('data.root="a\\0b"', ["has a character that is invalid in file names"]),
        ("schedule.milestones=3", ["schedule.milestones is 3: give a list"]),
        ("schedule.milestones={a: 1}", ['schedule.milestones is {"a": 1}: give a list']),
        ("schedule.milestones=[1,x]", ['schedule.milestones.1 is "x": give a number']),
        ("schedule.milestones.0.a=3", ["no schedule.milestones.0"]),
        ("optim.betas=[0.9]", ["optim.betas", "2"]),
        ("optim.betas=[1,2,3]", ["optim.betas is [1, 2, 3]: give a list of 2 entries"]),
        ("optim.betas=[]", ["optim.betas is []: give a list of 2 entries"]),
        ("optim.betas.5=0.9", ["override optim.betas.5=0.9: there is no optim.betas.5: optim.betas has 2 entries"]),
        ("optim.0=0.9", ["override optim.0=0.9: optim is no list and has no entry 0"]),
        ("schedule.milestones.0=3", ["schedule.milestones.0"]),
        ("schedule.milestones.first=3", ["schedule.milestones.first"]),
        ("optim.lr", ["'optim.lr' is not an override", "optim.lr=0.2"]),
        ("=3", ["is not an override"]),
        ("\ud800=3", [r"'\ud800=3' is not an override"]),
        ("0=3", ["an experiment is no list and has no entry 0"]),
        ("optim..lr=3", ["no key optim."]),
        ("optim.betas=[0.9", ["this is not YAML", "quote the value if it is text"]),
        ("optim.betas=" + 2000 * "[", ["nested more than 30 levels deep"]),
        ("name=" + 100_001 * "a", ["more than 100000 characters"]),
        (100 * "optim." + "lr=1", ["is not an override: its key has 101 parts"]),
        ("task=detect", ["task is 'detect'", "did you mean detection?"]),
        ("task=x", ["task is 'x'", "one of classification, detection"]),
        ("task=[1]", ["override task=[1]: task is [1]", "one of classification"]),
        ("model.backbone={name: resnet5O}", ["no backbone named 'resnet5O'", "did you mean resnet50?"]),
        ("model.backbone={name: vgg16, shortcut: C}", ["override model.backbone=", "no key model.backbone.shortcut"]),
        ("model.backbone=resnet5O", ["no backbone named 'resnet5O'", "did you mean resnet50?"]),
        ("model.backbone=cifar_resnet21", ["6n+2"]),
        ("data=imagenet2", ["no data set named 'imagenet2'", "did you mean imagenet?"]),
        ("data.name=", ["data.name is null: give text"]),
        ("data.name=''", ["no data set named ''"]),
        ("data.name=[1]", ["no data set named '[1]'"]),
        ("model.backbone=cifar_resnet" + 5000 * "9", ["no backbone named 'cifar_resnet999"]),
        ("optim.lr=-1", ["optim.lr is -1.0", "above zero"]),
        ("schedule.milestones=[2,1]", ["schedule.milestones is [2.0, 1.0]", "growing"]),
        ("train.accumulate=3", ["train.accumulate is 3", "256"]),
        ("model.label_smoothing=1", ["model.label_smoothing is 1.0"]),
        ("model.num_classes=0", ["model.num_classes is 0"]),
        ("data.size=300", ["data.size is 300", "256"]),
        ("eval.scales=[]", ["eval.scales"]),
    ],
)
def test_mistakes_in_overrides(write, override, words):
    message = refused(write(""), override)
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    "text, words",
    [
        ("optim: {lrr: 1}\n", ["mine.yaml", "optim.lrr", "did you mean lr?"]),
        ("optim: {lr: fast}\n", ["mine.yaml", "optim.lr", "fast"]),
        ("optim:\n", ["mine.yaml: optim is null: give a mapping of its keys (name, lr"]),
        ("data:\n", ["mine.yaml: data is null: give a mapping of its keys (name, size"]),
        ("model: 3\n", ["mine.yaml: model is 3: give a mapping of its keys (backbone"]),
        ("optim: {lr: 1}\noptim: {lr: 2}\n", ["mine.yaml, line 3: duplicate key optim"]),
        ("optim: {lr: 1, lr: 2}\n", ["mine.yaml, line 2: duplicate key lr"]),
        ("optim: &a\n  lr: *a\n", ["mine.yaml, line 2: an alias is inside the value that it refers to"]),
        ("optim: *a\n", ["mine.yaml, line 2: this is not YAML: found undefined alias"]),
        ("? [1]\n: 2\n", ["mine.yaml, line 2: a key is text"]),
        ("name: !!binary aGk=\n", ["mine.yaml, line 2: the tag !!binary has no meaning in a config"]),
        ("name: !mine x\n", ["line 2: the tag !mine has no meaning in a config"]),
        ("optim: !!set {lr}\n", ["line 2: the tag !!set has no meaning"]),
        ("optim: {lr: !!float x}\n", ["line 2: 'x' is no float: leave out the tag !!float"]),
        ("optim: {<<: 3}\n", ["line 2: << needs a mapping"]),
        ('name: "\\UFFFFFFFF"\n', ["mine.yaml: this is not YAML: it contains an invalid escape sequence"]),
        ('name: "\\uD800"\n', ["mine.yaml, line 2: '\\ud800' has a character that is invalid in file names"]),
        ("name: a\x07b\n", ["mine.yaml: this is not YAML: special characters are not allowed"]),
        ("---\na: 1\n---\nb: 1\n", ["not YAML", "but found another document"]),
        (100_001 * "#", ["more than 100000 characters"]),
        ("data: {name: imagnet}\n", ["imagnet", "did you mean imagenet?"]),
        ("optim:\n  lr: 0.1\n  momentum: [\n", ["mine.yaml, line 5", "not YAML"]),
        ("a: b: c\n", ["mine.yaml, line 2", "not YAML"]),
        ("_base_: nowhere.yaml\n", ["nowhere.yaml"]),
        ("_base_: 3\n", ["_base_"]),
        ("_base_: [3]\n", ["_base_"]),
    ],
)
def test_mistakes_in_files(write, text, words):
    message = refused(write(text))
    assert all(word in message for word in words), message


def test_of_several_mistakes_one_is_told(write):
    path = write("optim: {betas: [], momentum: x}\ntrain: {batch: y}\n")
    assert "optim.momentum is" in refused(path)
    assert "optim.betas is []: give a list of 2 entries" in refused(path, "optim.momentum=0")


def test_an_error_of_a_base_names_that_file(write):
    write("train: {batch: 0}\n", "ground.yaml")
    child = write("_base_: ground.yaml\noptim: {lr: 1}\n", task="")
    assert "ground.yaml: train.batch is 0" in refused(child)
    assert refused(child, "train.batch=-1").startswith("override train.batch=-1: train.batch is -1")
    assert config.load(child, "train.batch=8").train.batch == 8


def test_an_alias_is_a_copy(write):
    text = "optim: &a {lr: 1, momentum: 0.5}\nalternating: null\nname: &b mine\ndata: {name: folder, root: *b}\n"
    experiment = config.load(write(text.replace("alternating: null\n", "")))
    assert experiment.optim.lr == 1 and experiment.data.root == "mine"
    merged = "optim:\n  <<: [{lr: 3}, {lr: 4, momentum: 0.1}]\n  momentum: 0.2\n"
    experiment = config.load(write(merged))
    assert (experiment.optim.lr, experiment.optim.momentum) == (3, 0.2)


@pytest.mark.parametrize("bomb", ["[*{0}, *{0}]", "{{<<: [*{0}, *{0}], {1}: 1}}"])
def test_aliases_that_multiply_end(write, bomb):
    """Each names the one before twice: 2^30 values."""
    lines = ["a0: &a0 {x: 1}"] + [f"a{n}: &a{n} {bomb.format(f'a{n - 1}', f'k{n}')}" for n in range(1, 30)]
    message = refused(write("\n".join(lines)))
    assert "more than 10000 values" in message or "nested" in message


def test_too_many_bases(write):
    for n in range(12):
        write(f"_base_: [{n + 1}.yaml, {n + 1}.yaml]\n", f"{n}.yaml")
    write("", "12.yaml")
    assert "more than 100 _base_ files" in refused(write("_base_: 0.yaml\n", task=""))


def test_a_section_that_is_null_begins_with_its_defaults(write):
    path = write("model: {mask: {width: 3}}\nalternating: {regions: {length: 5}}\n", task="task: detection\n")
    experiment = config.load(path)
    assert experiment.model.mask == MaskConfig(width=3)
    assert experiment.alternating.regions == PartConfig(batch=16, length=5)
    assert config.load(path, "model.mask=null").model.mask is None
    experiment = config.load(path, "data.train.images=mine")
    assert experiment.data.train == SplitConfig("mine", "annotations/instances_train2017.json")


@pytest.mark.parametrize("text", ["", "# nothing\n", "optim: {lr: 1}\n"])
def test_a_file_without_a_task(write, text):
    assert "names no task" in refused(write(text, task=""))


@pytest.mark.parametrize("text", ["[1, 2]\n", "just words\n", "3\n"])
def test_a_file_that_is_no_mapping(write, text):
    assert "mapping" in refused(write(text, task=""))


def test_a_file_that_is_no_text(write, tmp_path):
    (tmp_path / "picture.yaml").write_bytes(b"\xff\xd8\xff\xe0 task")
    assert "picture.yaml" in refused(tmp_path / "picture.yaml")


def test_a_name_without_its_ending_and_a_name_nearly_right():
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


def circle() -> dict:
    settings: dict = {"task": "classification"}
    settings["model"] = {"backbone": settings}
    return settings


WRONG_DICTS = {
    "is a list": [],
    "contains itself": circle(),
    "optim.lr is a Tensor": {"task": "classification", "optim": {"lr": torch.zeros(1)}},
    "optim.lr is a complex": {"task": "classification", "optim": {"lr": 1j}},
    "optim has a key that is not valid text": {"task": "classification", "optim": {3: 1}},
    "the experiment has a key that is not valid text": {"task": "classification", "\ud800": 1},
    "optim.betas is": {"task": "classification", "optim": {"betas": [1]}},
    "task is None": {"task": None},
    "invalid in file names": {"task": "classification", "name": "a\0b"},
    "64-bit": {"task": "classification", "train": {"batch": 10**400}},
}


@pytest.mark.parametrize("words", WRONG_DICTS)
def test_what_a_checkpoint_may_carry_by_mistake(words):
    with pytest.raises(ConfigError, match="the config inside best.pth") as caught:
        config.from_dict(WRONG_DICTS[words], "the config inside best.pth")
    assert words in str(caught.value)


def test_a_dict_of_many_references_ends():
    entry: list = []
    for _ in range(35):
        entry = [entry, entry]
    with pytest.raises(ConfigError, match="nested too deeply"):
        config.from_dict({"task": "classification", "data": {"augment": {"albumentations": entry}}})


def test_a_dict_takes_overrides_and_stays_as_it_was():
    settings = config.to_dict(config.load("shapes_resnet20", "model.backbone.norm=gn"))
    before = copy.deepcopy(settings)
    changed = config.from_dict(settings, overrides=("model.backbone=resnet18", "data=imagenet"))
    assert changed.model.backbone == ResNetConfig(name="resnet18") and changed.data == ImageNetConfig(name="imagenet")
    assert settings == before


def test_a_warped_region_has_room_for_its_box():
    assert config.load("shapes_loc_rcnn_r18", "data.size=32", "model.context=15").model.context == 15
    for context in (16, 40):
        with pytest.raises(ConfigError, match=f"model.context is {context}: .*data.size, which is 32"):
            config.load("shapes_loc_rcnn_r18", "data.size=32", f"model.context={context}")


def test_mistakes_in_a_dict_name_where_it_comes_from():
    with pytest.raises(ConfigError, match="the config inside best.pth: there is no key optim.warp"):
        config.from_dict({"task": "classification", "optim": {"warp": 9}}, "the config inside best.pth")


def test_there_are_configs():
    assert CONFIGS and {path.stem for path in CONFIGS} <= set(config.shipped())


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_loads_builds_and_says_how_it_is_run(path):
    experiment = config.load(path)
    header = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    commands = [line for line in header if line.startswith("#   command")]
    assert commands and path.name in commands[0] and path.read_text(encoding="utf-8").startswith("#")
    if experiment.model.num_classes is None:
        return
    with torch.device("meta"):
        model = resdet.build(experiment)
    if experiment.task == "detection":
        assert model.roi_heads.stages[0].predictor.scores.out_features == experiment.model.num_classes + 1
    elif experiment.task == "localization":
        assert len(model.rpn.scores.weight) == experiment.model.num_classes
    else:
        assert model.backbone.fc.out_features == experiment.model.num_classes
