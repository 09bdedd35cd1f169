"""A model as an ONNX file, with all that a host must know in its metadata."""

import copy
import json
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
from resdet.export.program import trace
from resdet.files.atomic import Check, accept, write_bytes

OPSET = 18
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def to_onnx(model: Any, path: str | Path, form: Form = DEFAULT, check: Check = accept) -> None:
    """Writes an `.onnx` file, which `resdet.load` reads; `check` reads it before it takes the place of a former one.

    Its inputs are `images` [B, 3, H, W] (RGB, 0 to 255) and for detectors `sizes` [B, 2], the height and width that are
    not padding; `score`, the least score of a detection, may be given or not. Norms are folded into convolutions.
    """
    require_packages()
    folded = copy.deepcopy(model).cpu()
    fold_norms(folded)
    graph = graph_of(folded, form)
    exported = translate(trace(graph, folded, form), graph.inputs, graph.outputs, graph.groups)
    written = {f"resdet.{key}": json.dumps(value) for key, value in describe(model, form).items()}
    exported.model.metadata_props.update(written)
    score = exported.model.graph.initializers.get("score")
    if score is not None:
        exported.model.graph.inputs.append(score)  # an input with a value of its own is one that may be left out
    write_bytes(path, exported.model_proto.SerializeToString(), check)


def require_packages() -> None:
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise Error(f"Exporting to ONNX needs packages that are not installed: pip install {' '.join(missing)}")


def translate(program: ExportedProgram, inputs: Sequence[str], outputs: Sequence[str], groups: int) -> Any:
    """torch's ONNXProgram; `groups`: within how many groups, of classes or of levels, boxes are suppressed at most."""
    from resdet.export.translations import translations

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
