"""Names of earlier versions of resdet in checkpoints: both are read, the present ones are written."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")
MODULES = {"normalise": "normalize", "regions": "roi_heads"}
OLD = re.compile(rf"(^|\.)({'|'.join(MODULES)})\.")
MARK = "normalise.mean"  # in all models of earlier versions
DESCRIPTION = {"normalise": "normalize"}


def current_names(state: Mapping[str, T]) -> dict[str, T]:
    """A state dict under the present names."""
    if not any(name.endswith(MARK) for name in state):
        return dict(state)
    return {OLD.sub(lambda match: f"{match[1]}{MODULES[match[2]]}.", name): value for name, value in state.items()}


def current_description(description: Mapping[str, Any]) -> dict[str, Any]:
    """What a file says beside its tensors, under the present keys."""
    return {DESCRIPTION.get(key, key): value for key, value in description.items()}
