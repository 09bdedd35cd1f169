"""Export to a torch.export program: a file with the whole inference graph, which runs without the model's code."""

import copy
import io
import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from resdet.errors import Error
from resdet.export.exporters import describe, exporter_of, graph_of
from resdet.export.form import DEFAULT, Form
from resdet.files.atomic import Check, accept, write_bytes

DESCRIPTION = "resdet.json"  # name of the metadata inside the file
LARGEST_BATCH = 2**16  # torch 2.6 refuses a batch without an upper limit
UNTRACEABLE = (torch._dynamo.exc.TorchDynamoException, GuardOnDataDependentSymNode)


def to_program(model: Any, path: str | Path, form: Form = DEFAULT, check: Check = accept) -> ExportedProgram:
    """Writes a `.pt2` file; the outputs of `torch.export.load(path).module()` equal the model's bit for bit.

    `check` validates the file before it replaces an old one. The program calls resdet's operators, which `import
    resdet.export` registers.
    """
    program = trace(graph_of(copy.deepcopy(model).cpu(), form), model, form)
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about channels_last weights, but saves them correctly
        torch.export.save(program, content, extra_files={DESCRIPTION: json.dumps(describe(model, form))})
    write_bytes(path, content.getbuffer(), check)
    return program


@torch.no_grad()
def trace(graph: nn.Module, model: Any, form: Form) -> ExportedProgram:
    """Traces the graph of a model with torch.export."""
    example = exporter_of(model).example(model, form)
    shapes = ({0: Dim("batch", max=LARGEST_BATCH)},) * len(example) if form.dynamic_batch else None
    try:
        return torch.export.export(graph, example, dynamic_shapes=shapes, strict=False)
    except UNTRACEABLE as error:
        open_batch = form.dynamic_batch and "specialized" in str(error)
        remedy = "omit --dynamic-batch" if open_batch else "choose another backbone"
        raise Error(f"torch.export cannot trace this model ({str(error).splitlines()[0]}): {remedy}.") from error
