"""Runs the Python blocks of each page of the documentation in order, in one namespace, with small models and images.

A block below the comment `<!-- not run: REASON -->` is only compiled; its imports and its names of resdet must exist.
"""

import ast
import importlib
import os
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from documentation.pages import CURRENT, blocks, name_of
from documentation.test_links import exists
from images.test_video import written
from running import REPOSITORY
from torch.utils.data import DataLoader

import resdet
from resdet import errors
from resdet.backbones.config import backbones
from resdet.config.experiment import experiments
from resdet.data import shapes
from resdet.data.config import formats
from resdet.detection.evaluation.protocols import evaluators
from resdet.detection.formats.registry import formats as layouts
from resdet.detection.heads import registry
from resdet.necks.config import necks
from resdet.tasks import tasks
from resdet.weights import zoo

PYTHON = [block for page in CURRENT for block in blocks(page) if block.language == "python"]
RUN = {name_of(page): [block for block in PYTHON if block.page == page and block.run] for page in CURRENT}
AS_TORCHVISION = (
    *("model.box.aligned=false", "model.mask.aligned=false", "model.rpn.anchors.style=torchvision"),
    *("model.input.resize=torchvision", "model.input.min_size=64", "model.input.max_size=64"),
)
MODELS = (  # config, number of classes, overrides, files
    ("shapes_mask_r18_fpn.yaml", 3, AS_TORCHVISION, ("best.pth", "FILE", "a.pth", "b.pth", "runs/custom/best.pth")),
    ("imagenet_r18.yaml", 300, ("model.backbone.shortcut=B",), ("classifier.pth", "runs/imagenet_r101/best.pth")),
    ("cifar10_resnet20.yaml", 10, (), ("runs/cifar10_resnet20/best.pth",)),
    ("shapes_loc_r18.yaml", 300, (), ("localizer.pth", "runs/imagenet_loc_r101/best.pth")),
)
REGISTRIES = (
    *(backbones, necks, formats, layouts, evaluators, experiments, tasks),
    *(registry.box_heads, registry.mask_heads, registry.roi_branches, registry.box_losses, registry.class_losses),
)
IMAGES = (
    "street.jpg",
    "cat.jpg",
    "dog.jpg",
    "a.jpg",
    "b.jpg",
    "large.jpg",
    "photos/1.jpg",
    "photos/2.jpg",
    "photos/val/3.jpg",
)
ABSENT = {"h5py", "detectron2", "ray"}  # optional packages that a block may import
GIVEN = {  # variables that a page leaves to the reader
    "docs/localization.md": lambda: {
        "labels": np.array([0]),
        "boxes": [np.array([[0, 0, 9, 9]])],
        "guessed": np.array([[0, 1]]),
        "places": np.zeros((1, 2, 4)) + [0, 0, 9, 9],
    },
}


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_blocks_compile_and_their_names_exist(block):
    tree = ast.parse(block.text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module]
        else:
            modules = []
        for module in modules:
            if module.partition(".")[0] not in ABSENT | {"my_modules"}:
                found = importlib.import_module(module) if "detectron2" not in block.text else None
                names = [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) else []
                assert found is None or [name for name in names if not has(found, name)] == []
    dotted = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert [name for name in dotted if name.startswith("resdet.") and name.isascii() and not is_known(name)] == []


def test_names_used_by_pages_and_examples_are_in_the_python_reference():
    listed = set(vars(errors)) | set(re.findall(r"\w+", (REPOSITORY / "docs/api.rst").read_text(encoding="utf-8")))
    examples = [path.read_text(encoding="utf-8") for path in (REPOSITORY / "examples").rglob("*.py")]
    nodes = [node for text in (*examples, *(block.text for block in PYTHON)) for node in ast.walk(ast.parse(text))]
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module.startswith("resdet")]
    used = {f"{node.module}.{alias.name}" for node in imports for alias in node.names}
    dotted = {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)}
    used |= {name for name in dotted if re.fullmatch(r"resdet(\.\w+)+", name)}
    assert len(used) > 60 and sorted(name for name in used if name.rpartition(".")[2] not in listed) == []


def has(module, name: str) -> bool:
    """Returns whether a module has an attribute, or a package a module that may not be imported yet."""
    return hasattr(module, name) or (hasattr(module, "__path__") and find_spec(f"{module.__name__}.{name}") is not None)


def is_known(name: str) -> bool:
    """Checks plain dotted names only; expressions such as `resdet.load(…).predict` count as known."""
    return exists(name) if name.replace(".", "").isidentifier() else True


@pytest.fixture(scope="module")
def stage(module_folder, narrow):
    """Makes a folder with random images and with small models under the names that the pages use."""
    folder = module_folder("stage")
    rng = np.random.default_rng(0)
    for name in IMAGES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), rng.integers(0, 255, (48, 64, 3), np.uint8))
    written(folder / "street.mp4")
    for config, count, overrides, names in MODELS:
        model = resdet.build(config, f"model.num_classes={count}", *overrides)
        resdet.weights.save(model, folder / names[0], "safetensors")
        for name in names[1:]:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.link(folder / names[0], folder / name)
    return folder


@pytest.mark.parametrize("page", [page for page in RUN if RUN[page]])
def test_blocks_run(page, stage, tmp_path, monkeypatch):
    shutil.copytree(stage, tmp_path, dirs_exist_ok=True, copy_function=os.link)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(zoo, "locate", stand_in)
    monkeypatch.setattr(shapes, "draw", plain)
    if find_spec("pandas") is None:
        monkeypatch.setattr(resdet.Result, "to_pandas", resdet.Result.columns)
    monkeypatch.setattr(DataLoader, "__iter__", first_batch)
    for each in REGISTRIES:
        monkeypatch.setattr(each, "entries", dict(each.entries))
    namespace = {"resdet": resdet, "torch": torch, "__name__": "page", **GIVEN.get(page, dict)()}
    for block in RUN[page]:
        exec(compile("\n" * block.line + block.text, str(block.page), "exec", dont_inherit=True), namespace)


def plain(label: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Generates a uniform image, which is fast; the pages train on thousands of images."""
    return np.full((size, size, 3), 20 * label, np.uint8)


ITERATE = DataLoader.__iter__


def first_batch(loader: DataLoader):
    """Yields only the first batch of a page's loader; loaders of trainings, without a batch size, yield everything."""
    if loader.batch_size is None:
        yield from ITERATE(loader)
        return
    yield loader.collate_fn([loader.dataset[index] for index in range(loader.batch_size)])


def stand_in(source) -> Path:
    """Returns a small model in place of a published one."""
    if Path(source).exists():
        return Path(source)
    assert str(source) in zoo.names()
    return Path("best.pth" if "rcnn" in str(source) else "classifier.pth")
