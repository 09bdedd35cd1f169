"""Tests results cached in JSON files."""

import pytest

from resdet.files.keyed_cache import cached_json


def test_the_cache_is_recomputed_for_another_key(tmp_path):
    asked = []
    compute = lambda: asked.append(1) or len(asked)
    path = tmp_path / "folder/predictions.json"
    assert [cached_json(path, key, compute) for key in ("a", "a", "b", "b", "a")] == [1, 1, 2, 2, 3]
    path.write_text("{")
    assert cached_json(path, "a", compute) == 4


@pytest.mark.parametrize("damaged", ["[1]", '{"a": 1}', '{"key": "a"}', "1", "null"])
def test_a_damaged_cache_is_recomputed(tmp_path, damaged):
    path = tmp_path / "predictions.json"
    path.write_text(damaged)
    assert [cached_json(path, "a", lambda: 5), cached_json(path, "a", lambda: 6)] == [5, 5]


def test_results_that_cannot_be_cached_are_returned(tmp_path, capsys):
    (tmp_path / "file").touch()  # a folder inside a file fails with any permissions
    assert cached_json(tmp_path / "file/predictions.json", "a", lambda: 5) == 5
    assert "not cached" in capsys.readouterr().err
