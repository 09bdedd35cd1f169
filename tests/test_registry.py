"""Tests registries: lookup, errors with the nearest name, and duplicate names."""

import sys

import pytest

from resdet import extension
from resdet.errors import ConfigError
from resdet.registry import Registry


@pytest.fixture
def registry() -> Registry[object]:
    return Registry("color", "paint.color", {"red": 1, "text": "string:ascii_letters"})


def test_a_path_is_imported_at_first_use(registry):
    assert registry["red"] == 1 and registry["text"].startswith("abc") and list(registry) == ["red", "text"]


def test_unknown_names_are_refused(registry):
    with pytest.raises(ConfigError, match=r"paint.color: there is no color named 'rad': did you mean red\?"):
        registry["rad"]
    with pytest.raises(ConfigError, match="choose from red, text, or name the module that registers yours"):
        registry.check("nothing of the kind")


def test_a_name_cannot_be_registered_twice(registry):
    @registry.register("blue")
    def blue():
        """An entry."""

    assert registry["blue"] is blue and "blue" in registry
    registry.register("blue")(blue)  # allowed, since a module may be imported again
    with pytest.raises(ConfigError, match="already a color named 'blue'"):
        registry.register("blue")(lambda: None)
    with pytest.raises(ConfigError, match="already a color named 'red'"):
        registry.register("red")(blue)


def test_a_module_with_a_syntax_error_is_reported_by_line(tmp_path, monkeypatch):
    (tmp_path / "unclosed.py").write_text("x = 1\ny = (\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        ConfigError, match=r"--import: cannot import the module unclosed .*unclosed.py, line 2.+: correct this line"
    ):
        extension.import_modules(["unclosed"], "--import")


def test_modules_of_a_checkpoint_are_required_and_not_imported(monkeypatch):
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with pytest.raises(ConfigError, match="a.pth needs the module colorsys.* --import colorsys"):
        extension.require_modules(["colorsys"], "a.pth")
    assert "colorsys" not in sys.modules
    extension.import_modules(["colorsys"], "--import")
    extension.require_modules(["colorsys"], "a.pth")
