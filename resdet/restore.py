"""Rebuilds a model from a checkpoint."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any, TypeVar, cast

from resdet import config
from resdet.config.experiment import Experiment
from resdet.errors import ConfigError
from resdet.weights import checkpoint_file, load_weights
from resdet.weights.skip_init import SkipInit

M = TypeVar("M")
Build = Callable[[Any, Sequence[str], Sequence[int] | None], M]  # experiment, classes, category ids -> model


def restore(checkpoint: checkpoint_file.Checkpoint, build: Build[M]) -> M:
    """Builds the model described by the config in a resdet checkpoint, and loads its weights."""
    description, name = checkpoint.description, f"the config inside {checkpoint.origin}"
    assert description.experiment is not None and description.classes is not None  # validated together
    experiment = config.from_dict(description.experiment, name)
    try:
        ready = replace(experiment, model=experiment.model.for_checkpoint())
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
    model: Any = build_with_weights(build, ready, description.classes, description.category_ids, checkpoint, name)
    model.experiment["model"]["backbone"] = asdict(experiment.model.backbone)  # as in the checkpoint, not as built
    return cast(M, model)


def build_with_weights(
    build: Build[M],
    experiment: Experiment,
    classes: Sequence[str],
    category_ids: Sequence[int] | None,
    checkpoint: checkpoint_file.Checkpoint,
    name: str,
) -> M:
    """Builds a model and loads the weights of `checkpoint`; `name`: the config, for errors."""
    try:
        with SkipInit(checkpoint.state, checkpoint.origin):
            model = build(experiment, classes, category_ids)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
    load_weights.load(model, checkpoint)
    return model
