"""Models, heads and operators create no tensor from a Python list on the device: the host would wait for its upload."""

import ast
from pathlib import Path

import pytest

import resdet

PACKAGE = Path(resdet.__file__).parent
FOLDERS = ("backbones", "necks", "ops", "detection/heads", "images/normalize.py", "detection/model.py")
MAKERS = {"tensor", "as_tensor", "from_numpy"}


def files() -> list[Path]:
    found = [PACKAGE / name for name in FOLDERS]
    return [file for path in found for file in (path.rglob("*.py") if path.is_dir() else [path])]


def uploads(tree: ast.AST) -> list[str]:
    """Returns the names of functions that call torch.tensor(…, device=…) or torch.tensor(…).to(…)."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return [function.name for function in functions if any(is_upload(node) for node in ast.walk(function))]


def is_upload(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    if node.func.attr in MAKERS:
        return any(keyword.arg == "device" for keyword in node.keywords)
    made = node.func.value
    moved = node.func.attr in ("to", "cuda") and isinstance(made, ast.Call) and isinstance(made.func, ast.Attribute)
    return moved and made.func.attr in MAKERS


@pytest.mark.parametrize("file", files(), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_no_list_is_uploaded(file):
    assert uploads(ast.parse(file.read_text(encoding="utf-8"))) == []


def test_an_upload_is_detected():
    text = "def f(x):\n    return x + torch.tensor([1.0], device=x.device)\ndef g(x):\n    torch.tensor([1]).to(x)"
    assert uploads(ast.parse(text)) == ["f", "g"]
