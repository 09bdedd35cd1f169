"""Compares reading JSON in windows of any size with the standard library's parser."""

import json

import pytest

from resdet.errors import DataError
from resdet.files import json_columns
from resdet.files.json_columns import JsonColumns, read_columns

ENTRIES = [
    {"id": i, "name": "é}, {" * (i % 3), "box": [i, -0.5, 1e300], "mask": {"size": [1, 2], "counts": "],[{"}}
    for i in range(50)
]
CONTENTS = {
    "objects": {"info": {"a": [1, {}]}, "images": ENTRIES, "other": [[1, 2], {"x": 3}], "end": 12},
    "nested last": {"images": [{"a": 1, "b": [{"c": 1}, {"c": 2}]}, {"a": 2}, {"a": None}]},
    "no objects": {"images": [1, "a", None, {"id": 2**70}, [], 3.5, -12]},
    "empty": {"images": [], "n": -1.5},
    "other kinds": {"images": {"a": 1}, "text": "\ud800"},
}


@pytest.mark.parametrize("chunk", [1, 7, 64, 2**20])
@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("indent", [None, 1])
def test_values_do_not_depend_on_the_window(tmp_path, monkeypatch, chunk, name, indent):
    monkeypatch.setattr(json_columns, "CHUNK", chunk)
    monkeypatch.setattr(json_columns, "BLOCK", 8)
    (tmp_path / "a.json").write_text(json.dumps(CONTENTS[name], indent=indent, ensure_ascii=chunk == 7 or "k" in name))
    found, expected = read_columns(tmp_path / "a.json", ["images"]), CONTENTS[name]
    assert {key: value for key, value in found.items() if key != "images"} == {
        key: value for key, value in expected.items() if key != "images"
    }
    images = found["images"]
    if not isinstance(expected["images"], list):
        assert images == expected["images"]
        return
    dicts = [entry if isinstance(entry, dict) else {} for entry in expected["images"]]
    assert isinstance(images, JsonColumns) and len(images) == len(dicts)
    assert [images[i] for i in range(len(images))] == [
        {key: value for key, value in entry.items() if value is not None} for entry in dicts
    ]
    ids = [value for (block,) in images.values("id") for value in block]
    assert ids == [entry.get("id") for entry in dicts]
    popped = [value for block in images.pop("mask") for value in block]
    assert popped == [entry.get("mask") for entry in dicts]
    assert [images[i] for i in range(len(images))] == [
        {key: value for key, value in entry.items() if value is not None and key != "mask"} for entry in dicts
    ]


def test_a_byte_order_mark_is_skipped(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"images": [{"id": 7}]}), encoding="utf-8-sig")
    images = read_columns(tmp_path / "a.json", ["images"])["images"]
    assert isinstance(images, JsonColumns) and images[0] == {"id": 7}


def test_memory_is_bounded_by_the_window(tmp_path):
    """Checks that the temporary memory does not grow with the number of entries."""
    import tracemalloc

    sizes = []
    for count in (20_000, 80_000):
        entries = ", ".join(f'{{"id": {i}, "bbox": [1.5, 2.5, 3.5, 4.5]}}' for i in range(count))
        (tmp_path / "a.json").write_text(f'{{"images": [{entries}]}}')
        del entries
        tracemalloc.start()
        columns = read_columns(tmp_path / "a.json", ["images"])
        sizes.append(tracemalloc.get_traced_memory())
        tracemalloc.stop()
        assert len(columns["images"]) == count
    assert sizes[1][0] < (tmp_path / "a.json").stat().st_size * 2
    assert sizes[1][1] - sizes[1][0] < 2 * (sizes[0][1] - sizes[0][0])


@pytest.mark.parametrize(
    "text, sentence",
    [
        ('{"images": [{"id": 1, "id": 2}]}', "duplicate key 'id'"),
        ('{"images": [], "images": []}', "duplicate key 'images'"),
        ('{"images": [{"id": 1},]}', "is not valid JSON"),
        ('{"images": [{"id": 1}] "b": 2}', "is not valid JSON"),
        ('{"images": [{"id": 1}', "is not valid JSON"),
        ('{"images": []} x', "is not valid JSON"),
        ("", "is not valid JSON"),
    ],
)
def test_errors_are_those_of_read_json(tmp_path, text, sentence):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=sentence):
        read_columns(tmp_path / "a.json", ["images"])


def test_a_list_is_read_without_columns(tmp_path):
    (tmp_path / "a.json").write_text("[1, 2]")
    assert read_columns(tmp_path / "a.json", ["images"]) == [1, 2]
