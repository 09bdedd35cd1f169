from pathlib import Path

import pytest


@pytest.fixture
def write(tmp_path):
    """Returns a function that writes a config file, by default of a classification task."""

    def to_file(text: str, name: str = "mine.yaml", task: str = "task: classification\n") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(task + text, encoding="utf-8")
        return path

    return to_file
