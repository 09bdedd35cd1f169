"""From a checkpoint to the model that it describes."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any, TypeVar

from torch import nn

from resdet import config
from resdet.config.experiment import Experiment
from resdet.errors import ConfigError
from resdet.weights import loading, reading
from resdet.weights.skip_init import SkipInit

M = TypeVar("M", bound=nn.Module)
Build = Callable[[Any, Sequence[str], Sequence[int] | None], M]  # experiment, classes, category ids -> model


def restore(checkpoint: reading.Checkpoint, build: Build[M]) -> M:
    """The model that the config in a file of ours describes, with its weights."""
    description, what = checkpoint.description, f"the config inside {checkpoint.origin}"
    experiment = config.from_dict(description.experiment, what)
    try:
        ready = replace(experiment, model=experiment.model.for_checkpoint())
    except ConfigError as error:
        raise ConfigError(f"{what}: {error}") from None
    model = build_with_weights(build, ready, description.classes, description.category_ids, checkpoint, what)
    model.experiment["model"]["backbone"] = asdict(experiment.model.backbone)
    return model


def build_with_weights(
    build: Build[M],
    experiment: Experiment,
    classes: Sequence[str],
    category_ids: Sequence[int] | None,
    checkpoint: reading.Checkpoint,
    what: str,
) -> M:
    """`what` names the config in errors."""
    try:
        with SkipInit(checkpoint.state, checkpoint.origin):
            model = build(experiment, classes, category_ids)
    except ConfigError as error:
        raise ConfigError(f"{what}: {error}") from None
    loading.load(model, checkpoint)
    return model
