"""Export to an ONNX file with metadata."""

import copy
import json
import logging
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from resdet.backbones.surgery import fold_norms
from resdet.errors import Error
from resdet.export.exporters import describe, graph_of
from resdet.export.form import DEFAULT, Form
from resdet.export.onnx_model import PREFIX
from resdet.export.program import trace
from resdet.files.atomic import Check, accept, write_bytes

OPSET = 18
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def to_onnx(model: Any, path: str | Path, form: Form = DEFAULT, check: Check = accept) -> None:
    """Writes an `.onnx` file for `resdet.load`; `check` validates it before it replaces an old one.

    Inputs: `images` [B, 3, H, W] (RGB, 0 to 255), for detectors also `sizes` [B, 2] (height and width without padding)
    and the optional `score`, the minimum score of a detection. Norms are folded into convolutions.
    """
    require_packages()
    folded = copy.deepcopy(model).cpu()
    fold_norms(folded)
    graph: Any = graph_of(folded, form)
    exported = translate(trace(graph, folded, form), graph.inputs, graph.outputs, graph.groups)
    properties = {f"{PREFIX}{key}": json.dumps(value) for key, value in describe(model, form).items()}
    exported.model.metadata_props.update(properties)
    score = exported.model.graph.initializers.get("score")
    if score is not None:
        exported.model.graph.inputs.append(score)  # an input with an initializer is optional
    write_bytes(path, exported.model_proto.SerializeToString(), check)


def require_packages() -> None:
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise Error(f"Export to ONNX needs packages that are not installed: run pip install {' '.join(missing)}.")


def translate(program: ExportedProgram, inputs: Sequence[str], outputs: Sequence[str], groups: int) -> Any:
    """Returns torch's ONNXProgram; `groups`: maximum number of groups (classes or levels) in an NMS."""
    from resdet.export.translations import translations

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # torch 2.6 warns of each tensor without an annotation
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.onnx.export(
            program,
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=OPSET,
            custom_translation_table=translations(groups),
            dynamo=True,
            verbose=False,
        )
