"""Tests that commands in the documentation parse and that their settings resolve against the configs."""

import argparse
import os
import re
import shlex
from operator import attrgetter

import pytest
from documentation.pages import CURRENT, Block, blocks, codes, name_of
from jsonschema import Draft202012Validator
from running import REPOSITORY

import resdet
from resdet import cli, config, extension
from resdet.config.json_schema import json_schema
from resdet.errors import ConfigError

STARTS = re.compile(r"([A-Z_]+=\S+ )*(resdet|(python|torchrun\b.*?) -m resdet\.cli|python tools/train_loc\.py)( |$)")
PLACEHOLDER = re.compile(r"[A-Z0-9_.]*[A-Z]{2,}[A-Z0-9_.]*|[A-Z]|.*…|\.\.\.|F")
OWN_FILES = {"my.yaml", "mine.yaml", "yours.yaml", "runs/custom/config.yaml"}  # files of the reader
SCHEMA = Draft202012Validator(json_schema())
SECTIONS = ("model", "data", "optim", "schedule", "train", "eval")
KEY = re.compile(rf"({'|'.join(SECTIONS)})(\.\w+|\[\d+\])+")
SETTING = re.compile(rf"{KEY.pattern}(=.*)?")
NO_KEYS = {"data.yaml", "model.runtime.precision"}  # a file, and an attribute of exported models


def commands_in(block: Block) -> list[str]:
    """Returns the commands of a listing without comments; a backslash joins lines."""
    lines = re.sub(r"\\\n\s*", "", block.text).splitlines()
    parts = [part for line in lines for part in re.split(r" [|>] | && ", re.split(r"\s# ", line)[0])]
    return [part.strip() for part in parts if STARTS.match(part.strip())]


LISTED = [
    pytest.param(command, id=f"{name_of(page)}:{block.line}-{number}")
    for page in CURRENT
    for block in blocks(page)
    if not block.language
    for number, command in enumerate(commands_in(block))
]
MENTIONED = [
    pytest.param(code, id=f"{name_of(page)}:{line}")
    for page in CURRENT
    for line, code in codes(page)
    if STARTS.match(code)
]
SETTINGS = [
    pytest.param(word, id=f"{name_of(page)}:{line}-{word[:60]}")
    for page in CURRENT
    if page.name != "config.md"  # generated from the config classes
    for line, code in codes(page)
    if not STARTS.match(code)
    for word in code.split()
    if SETTING.fullmatch(word.rstrip(",;:"))
]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Changes to an empty folder, since output paths are checked, and ignores `--import` of the reader's modules."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(extension, "import_modules", lambda names, origin: None)


def words_of(command: str) -> list[str]:
    """Returns the words after `resdet` or an equivalent; tools/train_loc.py takes the arguments of `resdet train`."""
    start = STARTS.match(command)
    return ["train"] * ("train_loc" in start[0]) + shlex.split(command[start.end() :])


def is_usage(words: list[str]) -> bool:
    """Returns whether the words are a usage form, with `[optional]` words, `one|other` or `…`, not a command."""
    return any(word.startswith("[") or "…" in word or "|" in word for word in words)


@pytest.mark.parametrize("command", LISTED)
def test_listed_commands(command):
    words = words_of(command)
    if is_usage(words):
        return check_form(words)
    try:
        parsed = cli.parse(words)
    except SystemExit:
        pytest.fail(f"the parser refuses: {command}")
    given = getattr(parsed, "config", None)
    if given and given not in OWN_FILES and not PLACEHOLDER.fullmatch(given):
        config.load(given, *parsed.overrides)
    check_settings(words)


@pytest.mark.parametrize("command", MENTIONED)
def test_commands_in_the_text_exist(command):
    check_form(words_of(command))


def check_form(words: list[str]) -> None:
    """Checks that commands, options, choices, configs and settings exist; required words may be missing."""
    words = [word for given in words for word in ([given] if "=" in given else given.strip("[]").split())]
    parser = subparser(words)
    options = parser._option_string_actions
    for word, value in zip(words, [*words[1:], ""]):
        if word.startswith("--") and not re.match("--import", word):
            assert (name := word.partition("=")[0]) in options, f"no option {name} in {parser.prog}"
            choices = options[name].choices
            named = value.partition(" ")[0].split("|") if choices and options[name].nargs is None else []
            assert all(one in choices or PLACEHOLDER.fullmatch(one) for one in named if one), (name, value)
        if word == "--config" and value and value not in OWN_FILES and not PLACEHOLDER.fullmatch(value):
            config.find(value)
    check_settings(words)


def subparser(words: list[str]) -> argparse.ArgumentParser:
    """Returns the parser of the command and, for `resdet data`, of its action."""
    parser = cli.build_parser()
    for word in words:
        choices = next((a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction)), None)
        if choices is None or word.startswith("-"):
            break
        assert word in choices, f"no command {word} in {parser.prog}"
        parser = choices[word]
    return parser


def check_settings(words: list[str]) -> None:
    for word in words:
        if KEY.match(word) and "=" in word:
            check_setting(word.strip("[]") if word.startswith("[") else word)


@pytest.mark.parametrize("word", SETTINGS)
def test_settings_in_the_text_are_valid(word, models):
    word = word.rstrip(",;:")
    if word not in NO_KEYS and not any(reached(model, word) for model in models):
        check_setting(word)


@pytest.fixture(scope="module")
def models() -> list:
    """Builds models, whose attributes, such as `model.predict`, are not keys of a config."""
    return [resdet.build(name, "model.num_classes=2") for name in ("shapes_mask_r18_fpn", "shapes_resnet20")]


def reached(model, word: str) -> bool:
    try:
        return word.startswith("model.") and attrgetter(word.removeprefix("model."))(model) is not None
    except AttributeError:
        return False


def check_setting(word: str) -> None:
    """Checks that a setting is valid in some task, or that its key exists if the value is missing or a placeholder."""
    key, equals, value = word.partition("=")
    if key.endswith((".key", ".KEY")):
        return
    if not equals or PLACEHOLDER.fullmatch(value) or value in ("PATH", "FOLDER"):
        assert key_exists(key), f"no key {key}"
        return
    name, parsed = config.parse_override(word)
    assert key_exists(name), f"no key {name}"
    if not re.search(r"\.\d+(\.|$)|\[\d", name):
        nested = parsed
        for part in reversed(name.split(".")):
            nested = {part: nested}
        assert SCHEMA.is_valid(nested), f"{word} is refused"


def key_exists(key: str) -> bool:
    """Returns whether some task has the key; keys below free mappings are not checked."""
    schema = SCHEMA.schema
    places = [schema]
    for part in re.sub(r"\[\d+\]", "", key).split("."):
        if part.isdigit():
            continue
        below = [open_place for place in places for open_place in alternatives(place, schema)]
        places = [place["properties"][part] for place in below if part in place.get("properties", ())]
        if any("properties" not in place and place.get("type") == "object" for place in below):
            return True
        if not places:
            return False
    return True


def alternatives(place: dict, schema: dict) -> list[dict]:
    if "$ref" in place:
        return alternatives(schema["$defs"][place["$ref"].rpartition("/")[2]], schema)
    if "anyOf" in place:
        return [found for one in place["anyOf"] for found in alternatives(one, schema)]
    return [place]


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    lines = [line for page in CURRENT for block in blocks(page) for line in block.text.splitlines()]
    lines += [code for page in CURRENT for _, code in codes(page)]
    named = {found[1] for line in lines if (found := re.match(r"\s*make ([a-z-]+)", line))}
    assert {"test", "docs", "lint"} <= named <= targets


def test_paths_of_tests_exist():
    codes_ = [code for page in CURRENT for _, code in codes(page)]
    named = {word for code in codes_ if "pytest" in code for word in code.split() if word.startswith("tests/")}
    assert named and [path for path in named if not os.path.exists(REPOSITORY / path)] == []


@pytest.mark.parametrize(
    "command",
    ["train --config coco_r50_fpn.yaml --warmup 3", "train --config coco_r50_fpn.yaml model.rpn.pos_nms=3"],
)
def test_a_wrong_option_or_key_is_detected(command):
    with pytest.raises((pytest.fail.Exception, ConfigError, AssertionError)):
        test_listed_commands(f"resdet {command}")
    with pytest.raises(AssertionError):
        check_form(command.split())
