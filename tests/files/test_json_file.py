"""Checks that invalid and ambiguous JSON files raise one-line errors."""

import pytest

from resdet.errors import DataError
from resdet.files.json_file import read_json

BAD = {
    b"": "is not valid JSON",
    b'{"a": 1': "is not valid JSON",
    b"\xff\xfe\xfa": "is not valid JSON",
    b'{"a": "\xc3"}': "is not valid JSON",
    b"9" * 5000: "is not valid JSON",
    b"[" * 200_000 + b"]" * 200_000: "nested too deeply",
    b'{"a":' * 100_000 + b"1" + b"}" * 100_000: "nested too deeply",
    b'{"a": 1, "b": 2, "a": 3}': "duplicate key 'a'",
    b'[{"b": {"\\ud800": 1, "\\ud800": 3}}]': r"duplicate key '.ud800'",
}


@pytest.mark.parametrize("number", range(len(BAD)))
def test_invalid_json_is_a_one_line_error(tmp_path, number):
    content, what = list(BAD.items())[number]
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=what) as raised:
        read_json(tmp_path / "a.json")
    assert str(raised.value).startswith(str(tmp_path)) and str(raised.value).isascii()
    assert "\n" not in str(raised.value)


def test_valid_json_is_read(tmp_path):
    (tmp_path / "a.json").write_text('{"a": [1, {}, "é", null], "b": -2.5e3}')
    assert read_json(tmp_path / "a.json") == {"a": [1, {}, "é", None], "b": -2500}


def test_an_unreadable_path_is_an_error(tmp_path):
    for path in (tmp_path, tmp_path / "none", tmp_path / ("n" * 300), f"{tmp_path}/a\0b"):
        with pytest.raises(DataError, match="cannot be read"):
            read_json(path)
