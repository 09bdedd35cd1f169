"""Tests that links, files and names in the documentation exist."""

import ast
import re
import runpy
from importlib import import_module
from urllib.parse import unquote

import pytest
from documentation.pages import CURRENT, PAGES, anchors, codes, links, name_of
from running import REPOSITORY

import resdet
from resdet import config
from resdet.errors import Error

FILE = re.compile(r"(\.github|configs|docs|examples|resdet|results|tests|tools)/[\w./-]+\.\w+")
ROOTS = (REPOSITORY, REPOSITORY / "resdet")
NAME = re.compile(r"resdet(\.\w+)+")
METADATA = {"resdet.json", "resdet.task"}  # metadata of exported files


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_anchors(page):
    dead = []
    for line, target in links(page):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = unquote(target).partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.is_file() or (anchor and anchor not in anchors(file)):
            dead.append(f"line {line}: {target}")
    assert dead == []


@pytest.mark.parametrize("page", CURRENT, ids=name_of)
def test_files_and_configs_in_the_text_exist(page):
    shipped = {*config.shipped(), *(f"{name}.yaml" for name in config.shipped())}
    gone = []
    for line, code in codes(page):
        is_config = re.fullmatch(r"(cifar10|coco|imagenet|ilsvrc|shapes|voc)_\w+\.yaml", code)
        is_lost = FILE.fullmatch(code) and not any((root / code).exists() for root in ROOTS)
        if is_lost or (is_config and code not in shipped):
            gone.append(f"line {line}: {code}")
    assert gone == []


@pytest.mark.parametrize("page", CURRENT, ids=name_of)
def test_names_of_the_library_in_the_text_exist(page):
    missing = [f"line {line}: {code}" for line, code in codes(page) if is_name(code) and not exists(code)]
    assert missing == []


def test_classes_and_methods_in_the_map_of_the_paper_exist():
    source = "\n".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "resdet").rglob("*.py"))
    defined = set(re.findall(r"^ *(?:class|def) (\w+)", source, re.MULTILINE))
    named = {code for _, code in codes(REPOSITORY / "docs/paper.md") if re.fullmatch(r"[A-Z]\w+(\.\w+)?", code)}
    assert len(named) > 20 and [code for code in named if not defined.issuperset(code.split("."))] == []


def is_name(code: str) -> bool:
    return bool(NAME.fullmatch(code)) and code not in METADATA


def exists(name: str) -> bool:
    """Returns whether a dotted name is a module or an attribute of a module, class or object."""
    found = resdet
    path = "resdet"
    for part in name.split(".")[1:]:
        path += f".{part}"
        if not hasattr(found, part):
            try:
                found = import_module(path)
            except ModuleNotFoundError:
                return part in getattr(found, "__annotations__", ())
            except Error:
                return True  # the module needs a package that is not installed
        else:
            found = getattr(found, part)
    return True


def test_the_home_page_lists_every_page():
    """Checks the table that defines the navigation of the site."""
    listed = {target for _, target in links(REPOSITORY / "README.md")}
    pages = {name_of(page) for page in PAGES} - {"README.md"}
    assert pages | {"docs/api.rst"} <= listed


def test_names_of_the_python_reference_exist():
    text = (REPOSITORY / "docs/api.rst").read_text(encoding="utf-8")
    names = re.findall(r"^\.\. auto\w+:: (\S+?)(?:\(\))?$", text, re.MULTILINE)
    assert len(names) > 60 and [name for name in names if not exists(name)] == []
    for name, members in re.findall(r"^\.\. autoclass:: (\S+?)(?:\(\))?\n   :members: (.+)$", text, re.MULTILINE):
        assert [member for member in members.split(", ") if not exists(f"{name}.{member}")] == []


def test_extras_in_install_commands_exist():
    arguments: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        setuptools = pytest.importorskip("setuptools", "77")
        patch.setattr(setuptools, "setup", lambda **words: arguments.update(words))
        runpy.run_path(str(REPOSITORY / "setup.py"))
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = {name for group in re.findall(r"""["'](?:\.|resdet)\[([\w,]+)\]["']""", text) for name in group.split(",")}
    assert {"all", "dev", "serve"} <= named <= set(arguments["extras_require"])


def test_docstrings_contain_no_accidental_links():
    """Sphinx takes a word that ends with an underscore for a link, and `make docs` fails."""
    found = []
    for file in (REPOSITORY / "resdet").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = re.sub("`[^`]*`", "", ast.get_docstring(node) or "")
                found += [f"{file.name}: {word}" for word in re.findall(r"\w+_(?!\w)", text)]
    assert found == []
