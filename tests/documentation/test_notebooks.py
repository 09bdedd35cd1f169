"""Tests that the notebooks run and are committed without outputs."""

import ast
import json

import pytest
from documentation.test_links import exists
from running import REPOSITORY

NOTEBOOKS = sorted((REPOSITORY / "examples/notebooks").glob("*.ipynb"))


def name_of(notebook) -> str:
    return notebook.stem


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name_of)
def test_cells_compile_and_have_no_outputs(notebook):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert cells[0]["cell_type"] == "markdown" and code
    assert [cell for cell in code if cell["outputs"] or cell["execution_count"]] == []
    for cell in code:
        names = {ast.unparse(node) for node in ast.walk(ast.parse("".join(cell["source"]))) if is_attribute(node)}
        assert [name for name in names if name.startswith("resdet.") and not exists(name)] == []


def is_attribute(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and ast.unparse(node).replace(".", "").isidentifier()


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name_of)
def test_notebooks_run(notebook, tmp_path, monkeypatch):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(
        nbformat.read(notebook, 4), timeout=600, kernel_name="python3", resources=resources
    ).execute()
