"""Generates Python code that loads a saved file in another library. `model`: a Classifier or Detector."""

from pathlib import Path
from typing import Any

from resdet.weights import snippets_torchvision
from resdet.weights.kind import has_heads
from resdet.weights.layouts.torchvision_classifiers import name_of, stride_in


def safetensors(model: Any, path: Path) -> str:
    return f"import resdet\nmodel = resdet.load({str(path)!r})"


def timm(model: Any, path: Path) -> str:
    arguments = f"{name_of(model.backbone)!r}, num_classes={len(model.classes)}, checkpoint_path={str(path)!r}"
    return f"{pixels_of(model)}\nimport timm\nmodel = timm.create_model({arguments}).eval()"


def torchvision(model: Any, path: Path) -> str:
    if has_heads(model):
        make = snippets_torchvision.detector(model)
    else:
        name = name_of(model.backbone)
        make = f"{pixels_of(model)}\nfrom torchvision.models import {name}\n"
        make += f"model = {name}(num_classes={len(model.classes)})"
    read = f"import torch\nstate = torch.load({str(path)!r})"
    if path.suffix == ".safetensors":
        read = f"from safetensors.torch import load_file\nstate = load_file({str(path)!r})"
    return f"{make}\n{read}\nmodel.load_state_dict(state)\nmodel.eval()"


def detectron2(model: Any, path: Path) -> str:
    """Uses the YAML file written next to the weights; detectron2 has no classifiers, but loads one as a backbone."""
    if not has_heads(model):
        return backbone_of_detectron2(model, path)
    return f"""\
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.modeling import build_model
cfg = get_cfg()
cfg.merge_from_file({str(path.with_suffix(".yaml"))!r})
cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
model = build_model(cfg)
DetectionCheckpointer(model).load({str(path)!r})
model.eval()"""


def backbone_of_detectron2(model: Any, path: Path) -> str:
    """Returns the keys of a detectron2 config."""
    mean, std = snippets_torchvision.colors(model)
    depth = name_of(model.backbone).removeprefix("resnet")
    return f"""\
MODEL:
  WEIGHTS: {path}
  PIXEL_MEAN: {mean}
  PIXEL_STD: {std}
  RESNETS: {{DEPTH: {depth}, STRIDE_IN_1X1: {stride_in(model.backbone) == "1x1"}}}
INPUT: {{FORMAT: RGB}}"""


def pixels_of(model: Any) -> str:
    """Returns a comment on the input of a classifier, which neither library stores with the weights."""
    mean, std = snippets_torchvision.statistics(model)
    size = f"{model.size} × {model.size}"
    return f"# Input: RGB images, {size}, scaled to 0 to 1, normalized with mean {mean} and std {std}."


RECIPES = {"torchvision": torchvision, "timm": timm, "detectron2": detectron2, "safetensors": safetensors}
