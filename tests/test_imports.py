"""Tests that help, registry names and config errors do not import torch, and that imports follow the layers."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
HEAVY = ("torch", "torchvision", "cv2", "albumentations", "scipy", "timm", "tensorboard")

REPORT = """
import sys
{code}
print("LOADED", *[name for name in {heavy} if name in sys.modules])
"""
COMMAND = """
from resdet.cli import main
try:
    status = main({words})
except SystemExit as exit:
    status = exit.code
print("STATUS", status)
"""


def run(code: str, folder: Path) -> subprocess.CompletedProcess:
    """Runs Python code in a new process, which prints the heavy packages it has imported."""
    script = REPORT.format(code=code, heavy=HEAVY)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run([sys.executable, "-c", script], cwd=folder, env=environment, capture_output=True, text=True)


def loaded(finished: subprocess.CompletedProcess) -> list[str]:
    assert finished.returncode == 0, finished.stderr
    line = finished.stdout.splitlines()[-1]
    assert line.startswith("LOADED")
    return line.split()[1:]


@pytest.mark.parametrize(
    "code",
    [
        "import resdet; resdet.__version__; resdet.Error; dir(resdet)",
        "import resdet; assert 'resnet50' in resdet.backbones.names()",
        "import resdet; resdet.config.load('shapes_resnet20.yaml', 'optim.lr=1')",
        "import resdet.classification, resdet.detection, resdet.localization",
        "import resdet.weights, resdet.data, resdet.engine",
        "import resdet.cli; resdet.cli.build_parser()",
    ],
)
def test_light_imports_load_no_heavy_package(code, tmp_path):
    assert loaded(run(code, tmp_path)) == []


def test_heavy_imports_are_reported(tmp_path):
    assert loaded(run("import torch", tmp_path)) == ["torch"]


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["train", "--help"], ["config", "--config", "shapes_resnet20"]]
)
def test_help_and_config_load_no_heavy_package(words, tmp_path):
    finished = run(COMMAND.format(words=words), tmp_path)
    assert loaded(finished) == [] and "STATUS 0" in finished.stdout


@pytest.mark.parametrize(
    "words, hint",
    [
        (["config", "--config", "shapes_resnet2O.yaml"], "did you mean shapes_resnet20.yaml?"),
        (["config", "--config", "shapes_resnet20.yaml", "optim.lrr=1"], "did you mean lr?"),
        (["train", "--config", "shapes_resnet2O.yaml"], "did you mean shapes_resnet20.yaml?"),
        (["train", "--config", "shapes_resnet20.yaml", "optim.lrr=1"], "did you mean lr?"),
    ],
)
def test_config_errors_load_no_heavy_package(words, hint, tmp_path):
    finished = run(COMMAND.format(words=words), tmp_path)
    assert "STATUS 2" in finished.stdout
    assert finished.stderr.startswith("resdet: ") and hint in finished.stderr and "Traceback" not in finished.stderr
    assert loaded(finished) == []


# The packages and modules of resdet by layer, lowest first; those of one layer do not import each other.
FLOORS = [
    ("_lazy", "cudnn", "errors", "model", "progress", "structures", "system", "timing"),
    ("compilation", "device_memory", "extension", "files", "optional", "registry", "threads"),
    ("ops",),
    ("backbones", "images"),
    ("necks", "onednn", "results", "weights"),
    ("data",),
    ("engine",),
    ("config",),
    ("restore", "tasks"),
    ("classification", "detection"),
    ("localization",),
    ("export",),
    ("fast",),
    ("hub",),
    ("batch_inference",),
    ("interop", "report"),
    ("serve",),
    ("bench",),
    ("reproduce",),
    ("commands",),
    ("cli",),
]
FLOOR_OF = {package: floor for floor, packages in enumerate(FLOORS) for package in packages}


def parts(module: str) -> str:
    """Returns the package or module directly below resdet."""
    return module.split(".")[1]


def imports(path: Path) -> Iterator[str]:
    """Yields the packages of resdet that a file imports, including imports in functions and for type checking."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} is a relative import"
            if node.module == "resdet":
                yield from (name.name for name in node.names if name.name in FLOOR_OF)
            elif node.module.startswith("resdet."):
                yield parts(node.module)
        elif isinstance(node, ast.Import):
            yield from (parts(name.name) for name in node.names if name.name.startswith("resdet."))


def test_every_package_has_a_layer():
    found = {path.stem for path in (REPOSITORY / "resdet").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert found - {"__init__", "__pycache__"} == set(FLOOR_OF)


@pytest.mark.parametrize("package", FLOOR_OF)
def test_packages_import_only_lower_layers(package):
    files = [*(REPOSITORY / "resdet" / package).rglob("*.py"), *(REPOSITORY / "resdet").glob(f"{package}.py")]
    others = [(path.name, other) for path in files for other in imports(path) if other != package]
    assert [pair for pair in others if FLOOR_OF[pair[1]] >= FLOOR_OF[package]] == []
