"""Tests the error messages for mistakes in configs and overrides."""

import pytest
from config_errors import refused

from resdet import config


@pytest.mark.parametrize(
    "override, words",
    [
        ("optim.lrr=1", ["override optim.lrr=1", "no key optim.lrr", "did you mean lr?"]),
        ("optm.lr=1", ["no key optm", "did you mean optim?"]),
        ("model.backbone=resnet20", ["There is no backbone named 'resnet20': did you mean cifar_resnet20?"]),
        ("lr=1", ["there is no key lr: give optim.lr=VALUE."]),
        ("batch=8", ["there is no key batch: give train.batch=VALUE or eval.batch=VALUE."]),
        ("epochs=8", ["there is no key epochs: give train.unit=epochs train.length=VALUE."]),
        ("foo=1", ["there is no key foo: the keys here are", "model"]),
        ("train.foo=1", ["train.foo", "the keys here are", "batch"]),
        ("train.lr=1", ["there is no key train.lr: give optim.lr=VALUE."]),
        ("train.epochs=8", ["there is no key train.epochs: give train.unit=epochs train.length=VALUE."]),
        ("mosaic=1", ["there is no key mosaic: give data.augment.mosaic=VALUE."]),
        ("train.loggers=wandb", ["train.loggers is wandb: give a list, as in [wandb], or null."]),
        ("model.backbone.dropout=1", ["model.backbone.dropout"]),
        ("optim.lr=fast", ["override optim.lr=fast: optim.lr is fast:", "give a number"]),
        ("optim.lr=null", ["optim.lr is null", "give a number, as in 0.1."]),
        ("optim.lr=true", ["optim.lr is true", "give a number"]),
        ("optim.lr=.nan", ["optim.lr is NaN", "finite"]),
        ("optim.lr=1e999", ["optim.lr is Infinity", "finite"]),
        ("optim.betas=[1.5,0.9]", ["optim.betas is [1.5, 0.9]: they lie between 0 and 1"]),
        ("schedule.final=-1", ["schedule.final is -1.0: give a share of the learning rate"]),
        ("schedule.warmup_lr=-1", ["schedule.warmup_lr is -1.0: give a learning rate above zero"]),
        ("train.exact_statistics=-5", ["train.exact_statistics is -5: give 0 (none) or a number of images"]),
        ("train.seed=-1", ["train.seed is -1: give 0"]),
        ("optim.lr=2001-13-01", ['optim.lr is "2001-13-01"', "give a number"]),
        ("optim.lr=!!int abc", ["override optim.lr=!!int abc", "'abc' is no int"]),
        ("optim.lr=!!python/name:os.system", ["the tag !!python/name:os.system has no meaning in a config"]),
        ("optim.clip_norm=a", ["optim.clip_norm is a:", "give a number, as in 0.1, or null"]),
        ("optim.nesterov=yes", ["optim.nesterov is yes:", "give true or false"]),
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
        ("schedule.milestones=[1,x]", ["schedule.milestones.1 is x: give a number"]),
        ("schedule.milestones.0.a=3", ["no schedule.milestones.0"]),
        ("optim.betas=[0.9]", ["optim.betas", "2"]),
        ("optim.betas=[1,2,3]", ["optim.betas is [1, 2, 3]: give a list of 2 entries"]),
        ("optim.betas=[]", ["optim.betas is []: give a list of 2 entries"]),
        ("optim.betas.5=0.9", ["override optim.betas.5=0.9: there is no optim.betas.5: optim.betas has 2 entries"]),
        ("optim.0=0.9", ["override optim.0=0.9: optim is not a list and has no entry 0"]),
        ("schedule.milestones.0=3", ["schedule.milestones.0"]),
        ("schedule.milestones.first=3", ["schedule.milestones.first"]),
        ("optim.lr", ["'optim.lr' is not an override", "optim.lr=0.2"]),
        ("=3", ["is not an override"]),
        ("\ud800=3", [r"'\ud800=3' is not an override"]),
        ("0=3", ["an experiment is not a list and has no entry 0"]),
        ("optim..lr=3", ["no key optim."]),
        ("optim.betas=[0.9", ["this is not YAML", "quote the value if it is text"]),
        ("optim.betas=" + 2000 * "[", ["nested more than 30 levels deep"]),
        ("name=" + 100_001 * "a", ["more than 100000 characters"]),
        (100 * "optim." + "lr=1", ["is not an override: its key has 101 parts"]),
        ("task=detect", ["task is detect:", "did you mean detection?"]),
        ("task=x", ["task is x:", "one of classification, detection"]),
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
        ("schedule.milestones=[2,1]", ["schedule.milestones is [2.0, 1.0]", "increasing order"]),
        ("schedule.milestones=[2,2]", ["schedule.milestones is [2.0, 2.0]", "increasing order"]),
        ("schedule.milestones=[0,2]", ["schedule.milestones is [0.0, 2.0]", "above 0"]),
        ("schedule.milestones=[-1,2]", ["schedule.milestones is [-1.0, 2.0]", "above 0"]),
        ("train.accumulate=3", ["train.accumulate is 3", "256"]),
        ("model.label_smoothing=1", ["model.label_smoothing is 1.0"]),
        ("model.class_weights=equal", ["equal: choose 'balanced' or a list of numbers, or null"]),
        ("model.class_weights=[1,0]", ["[1.0, 0.0]: list a number above 0 for each class"]),
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
        ("optim:\n\tlr: 1\n", ["mine.yaml, line 3: this is not YAML: it is indented with a tab: use spaces."]),
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


def test_only_one_of_several_mistakes_is_reported(write):
    path = write("optim: {betas: [], momentum: x}\ntrain: {batch: y}\n")
    assert "optim.momentum is" in refused(path)
    assert "optim.betas is []: give a list of 2 entries" in refused(path, "optim.momentum=0")


def test_errors_name_the_base_file_that_contains_the_mistake(write):
    write("train: {batch: 0}\n", "ground.yaml")
    child = write("_base_: ground.yaml\noptim: {lr: 1}\n", task="")
    assert "ground.yaml: train.batch is 0" in refused(child)
    assert refused(child, "train.batch=-1").startswith("override train.batch=-1: train.batch is -1")
    assert config.load(child, "train.batch=8").train.batch == 8


@pytest.mark.parametrize("name", ["custom", "shapes_mask_r18_fpn"])
def test_a_negative_seed_of_the_data_is_refused(name):
    assert "data.seed is -1: give 0 or a whole number above" in refused(name, "data.seed=-1")


def test_mutually_exclusive_settings(write):
    said = refused(write("optim: {nesterov: true, momentum: 0}\n"))
    assert "optim.nesterov is true: give a momentum above zero" in said


@pytest.mark.parametrize("override", [["optim.lr=1"], {"optim.lr": 1}, None])
def test_overrides_that_are_not_strings_are_rejected(write, override):
    assert "is not a string: give each as an argument" in refused(write(""), override)
