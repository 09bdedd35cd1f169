"""Defines torch operators that remain opaque in compilation and export.

`torch.library.custom_op` does the same, but imports dynamo when an operator first runs, which takes as long as
importing torch.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch._ops import OpOverload

NAMESPACE = "resdet"

Function = Callable[..., Any]


def define(
    schema: str,
    cpu: Function,
    fake: Function,
    cuda: Function | None = None,
    backward: Function | None = None,
    setup_context: Function | None = None,
) -> OpOverload:
    """Defines the operator of a schema such as `nms(Tensor boxes, float threshold) -> Tensor`, which mutates no
    argument.

    `fake` only computes shapes and dtypes. `backward` and `setup_context` are as in `register_autograd`.
    """
    name, parenthesis, rest = schema.partition("(")
    qualified = f"{NAMESPACE}::{name}"
    torch.library.define(qualified, parenthesis + rest, tags=torch.Tag.pt2_compliant_tag)
    torch.library.impl(qualified, "cpu", cpu)
    torch.library.register_fake(qualified, fake)
    if cuda is not None:
        torch.library.impl(qualified, "cuda", cuda)
    if backward is not None:
        torch.library.register_autograd(qualified, backward, setup_context=setup_context)
    operator: OpOverload = getattr(torch.ops.resdet, name).default
    return operator
