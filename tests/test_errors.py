"""Tests the text of errors: one line of limited length."""

import pytest

from resdet.config import yaml_reader
from resdet.errors import ConfigError, DataError, Error, WeightsError, hint, number_of, require, spelled


def test_a_short_message_is_unchanged():
    sentence = "images/a b.jpg: the file is cut short — “×2” is missing; download it again."
    assert str(DataError(sentence)) == sentence


@pytest.mark.parametrize(
    "text, shown",
    [
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\x1b[31mred\x07\x7f", r"\x1b[31mred\x07\x7f"),
        ("\u202egnp.exe\u2028", r"\u202egnp.exe\u2028"),
        ("half \ud800", r"half \ud800"),
        ("a\0b", r"a\x00b"),
    ],
)
def test_control_characters_are_escaped(text, shown):
    assert str(Error(text)) == shown


def test_long_names_are_shortened_in_the_middle():
    name = "/data/" + 1000 * "x" + "/the_end.json"
    sentence = str(WeightsError(f"{name}: the file is damaged; download it again."))
    assert sentence.startswith("/data/xxx") and "x…" in sentence
    assert sentence.endswith("/the_end.json: the file is damaged; download it again.") and len(sentence) < 400


def test_long_messages_are_shortened_in_the_middle():
    sentence = str(Error("first " + 200 * "word " + "last"))
    assert len(sentence) == 399 and sentence.startswith("first word") and sentence.endswith("word last")


@pytest.mark.parametrize("name, end", [("rbc", "did you mean RBC?"), ("wBc", "did you mean WBC?"), ("x", "see here.")])
def test_hints_ignore_the_case_of_names(name, end):
    assert hint(name, ["RBC", "WBC", "Platelets"], "see here.") == end


def test_a_nested_error_is_one_line():
    inner = Error("x" * 10_000 + "\n")
    assert len(str(DataError(f"outer: {inner}"))) < 400


def test_a_count_agrees_with_its_noun():
    assert [number_of(count, "image") for count in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert [number_of(count, "class has", "classes have") for count in (1, 3)] == ["1 class has", "3 classes have"]


@pytest.mark.parametrize(
    "value",
    [
        *(True, None, 1e-4, [1, "a"], "sgd", "3x3", "2007_test", "cuda:0", "/data/coco"),
        *("0.1", "1e-4", "1_0", "true", "Null", "", "a b", "-"),
    ],
)
def test_a_spelled_value_is_read_as_the_value(value):
    assert yaml_reader.parse(spelled(value), "text") == value


def test_names_are_spelled_without_quotes():
    assert [spelled(value) for value in ("sgd", "data/a-1.5", True, [None], "0.1")] == [
        "sgd",
        "data/a-1.5",
        "true",
        "[null]",
        '"0.1"',
    ]


def test_require_names_the_key():
    with pytest.raises(ConfigError, match="^optim.lr is -1: give more.$") as caught:
        require(False, "optim.lr", -1, "give more")
    assert caught.value.key == "optim.lr"
    require(True, "optim.lr", 1, "give more")
