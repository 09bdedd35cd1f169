"""Tensor names and metadata keys of earlier versions of resdet, renamed when a checkpoint is read."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")
MODULES = {"normalise": "normalize", "regions": "roi_heads"}
OLD = re.compile(rf"(^|\.)({'|'.join(MODULES)})\.")
MARK = "normalise.mean"  # a tensor in every model of earlier versions
DESCRIPTION = {"normalise": "normalize"}


def current_names(state: Mapping[str, T]) -> dict[str, T]:
    """Renames the tensors of an earlier version."""
    if not any(name.endswith(MARK) for name in state):
        return dict(state)
    return {OLD.sub(lambda match: f"{match[1]}{MODULES[match[2]]}.", name): value for name, value in state.items()}


def current_description(description: Mapping[str, Any]) -> dict[str, Any]:
    """Renames the metadata keys of an earlier version."""
    return {DESCRIPTION.get(key, key): value for key, value in description.items()}
