"""`resdet evaluate --weights …`: evaluates a checkpoint, or several as an ensemble, on the data of a config."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from resdet import config, hub
from resdet.config.experiment import Experiment
from resdet.device_memory import EVALUATION_REMEDY, memory_remedy
from resdet.engine import distributed
from resdet.errors import ConfigError
from resdet.fast import Compile, accelerate
from resdet.system import keep_freed_memory
from resdet.tasks import EvaluateOptions, refuse_model_settings, tasks

DEFAULT = EvaluateOptions()


def evaluate(
    weights: Sequence[str],
    experiment: Experiment | None = None,
    overrides: Sequence[str] = (),
    options: EvaluateOptions = DEFAULT,
    classifiers: Sequence[str] = (),
    mode: hub.Mode = "exact",
    compile: Compile = "auto",
) -> dict[str, Any]:
    """Returns the metrics of `weights` on the data of `experiment`; None: the config of the first checkpoint.

    `classifiers` predict the classes for localizers; `mode` and `compile`: see `resdet.load`.
    """
    models = [hub.load(path) for path in weights]
    check_tasks(models, weights, experiment)
    task = tasks[models[0].experiment["task"]]
    task.check_evaluate_options({**vars(options), "classifiers": classifiers}, weights[0])
    if experiment is None:
        if not models[0].experiment.get("data"):
            raise ConfigError(f"{weights[0]} names no data to evaluate it on: give --config.")
        origin = f"the config inside {weights[0]}"
        experiment = config.from_dict(models[0].experiment, origin, tuple(overrides))
        refuse_model_settings(config.from_dict(models[0].experiment, origin), experiment, overrides, weights[0])
    device = distributed.choose_device(experiment.train.device) if mode == "fast" else None
    nets = {path: hub.load(path, mode, device, compile) for path in classifiers}
    if mode == "fast":
        models = [
            hub.load(path, mode, compile=compile) if model.exported else accelerate(model.to(device), compile=compile)
            for model, path in zip(models, weights)
        ]
    keep_freed_memory()
    with memory_remedy("The evaluation", EVALUATION_REMEDY):
        return task.evaluate(models, weights, experiment, replace(options, classifiers=nets))


def check_tasks(models: Sequence[Any], paths: Sequence[str], experiment: Experiment | None) -> None:
    expected, origin = models[0].experiment["task"], paths[0]
    if experiment is not None:
        expected, origin = experiment.task, "the config"
    for model, path in zip(models, paths):
        task = model.experiment["task"]
        if task != expected:
            raise ConfigError(
                f"The task of {path} is {task} and that of {origin} is {expected}: give files of the same task."
            )
