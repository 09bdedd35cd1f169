"""A model as a program of torch.export: the whole graph of inference in a file that needs none of its code."""

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
from resdet.export.exporters import describe, example_of, graph_of
from resdet.export.form import DEFAULT, Form
from resdet.files.atomic import Check, accept, write_bytes

DESCRIPTION = "resdet.json"  # the name of what `describe` tells, inside the file
UNTRACEABLE = (torch._dynamo.exc.TorchDynamoException, GuardOnDataDependentSymNode)


def to_program(model: Any, path: str | Path, form: Form = DEFAULT, check: Check = accept) -> ExportedProgram:
    """Writes a `.pt2` file; `torch.export.load(path).module()` gives what the model gives, to the last bit.

    `check` reads the file before it takes the place of a former one.

    The program calls resdet's operators, which `import resdet.export` registers.
    """
    program = trace(graph_of(copy.deepcopy(model).cpu(), form), model, form)
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it wonders at weights whose channels come last, and saves them right
        torch.export.save(program, content, extra_files={DESCRIPTION: json.dumps(describe(model, form))})
    write_bytes(path, content.getbuffer(), check)
    return program


@torch.no_grad()
def trace(graph: nn.Module, model: Any, form: Form) -> ExportedProgram:
    """The graph of a model as torch.export sees it."""
    example = example_of(model, form)
    shapes = ({0: Dim("batch")},) * len(example) if form.dynamic_batch else None
    try:
        return torch.export.export(graph, example, dynamic_shapes=shapes, strict=False)
    except UNTRACEABLE as error:
        open_batch = form.dynamic_batch and "specialized" in str(error)
        remedy = "leave out --dynamic-batch" if open_batch else "this backbone is not for export"
        raise Error(f"torch.export cannot take this model ({str(error).splitlines()[0]}): {remedy}.") from error
