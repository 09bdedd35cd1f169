"""`resdet train`: from a config to a trained model in a folder."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from resdet import config
from resdet.engine import checkpoint, distributed
from resdet.engine.distributed import World
from resdet.engine.log import Log, record
from resdet.engine.run_folder import check_unoccupied, claim_folder
from resdet.engine.trainer import Trainer, be_deterministic
from resdet.engine.training import TrainingTask
from resdet.errors import ConfigError, FileError
from resdet.files.atomic import check_folder
from resdet.tasks import Step, tasks

# What an evaluation leaves in the folder of a run, beside its checkpoint.
LEFT = {"results": "results.json", "pictures": "pictures"}


def train(
    experiment: Any,
    out: str | None = None,
    resume: bool = False,
    init: str | None = None,
    eval_only: bool = False,
) -> dict[str, float]:
    """Trains, or with `eval_only` judges the weights of `init`; returns the best evaluation's figures."""
    world = distributed.join(experiment.train.device)
    try:
        check_world(experiment, world)
        if experiment.train.deterministic:
            be_deterministic()
        if eval_only:
            return judge(experiment, world, init)
        check_folder(out or "runs")
        with ExitStack() as claims:
            claim = lambda: claims.enter_context(claim_folder(experiment.name, out, resume))
            folder = distributed.from_main(claim)
            steps = tasks[experiment.task].steps(experiment, folder, init)
            if steps:
                return run_steps(experiment, steps, world, folder, resume)
            return run(experiment, world, folder, resume, init, tasks[experiment.task].open_training).best or {}
    finally:
        distributed.leave()


def check_world(experiment: Any, world: World) -> None:
    shares = world.size * experiment.train.accumulate
    if experiment.train.batch % shares:
        raise ConfigError(
            f"train.batch is {experiment.train.batch}: it must divide into {world.size} processes × "
            f"{experiment.train.accumulate} parts (train.accumulate), as "
            f"{max(experiment.train.batch // shares, 1) * shares} does."
        )


def run(
    experiment: Any, world: World, folder: Path, resume: bool, init: str | None, open_task: Callable[..., TrainingTask]
) -> Trainer:
    """A run to its end, or until it is stopped."""
    log = Log(folder if world.is_main else None)
    task = open_task(experiment, world, log, init)
    goes_on = resume and (folder / checkpoint.LAST).exists()
    if not distributed.from_main(lambda: goes_on):  # a check of a million images takes minutes
        task.check_images(log)
    distributed.from_main(task.check_ground_truth)
    if not (goes_on or init):
        task.initialize(log)
    trainer = Trainer(task, experiment.optim, experiment.schedule, experiment.train, world, folder)
    before = trainer.resume()["experiment"] if goes_on else None
    check_together(trainer, folder)
    if before:
        log.info(f"going on from step {trainer.step} of {folder / checkpoint.LAST}")
        for key, (old, new) in config.differences(before, config.to_dict(experiment)).items():
            log.info(f"changed since then: {key} was {old} and is {new}")
    if world.is_main:
        record(folder, config.to_yaml(experiment), experiment.train.seed, world.device, world.size)
    try:
        log.open(trainer.total, trainer.step, trainer.evaluation_due)
        best = trainer.run(log)
    except FileError as error:
        way_on = f"go on from step {trainer.saved} by --resume" if trainer.saved else "start again"
        raise FileError(f"{str(error).rstrip('.')}, then {way_on}.") from error
    finally:
        log.close()
    if world.is_main and best:
        figures = "  ".join(f"{key} {value:.4f}" for key, value in best.items() if key != "step")
        print(f"best at step {best['step']}: {figures}")
        print(f"checkpoint: {folder / checkpoint.BEST}")
        for name, file in LEFT.items():
            if (folder / file).exists():
                print(f"{name + ':':11} {folder / file}")
        print(f"metrics:    {folder / 'metrics.jsonl'} (curves: tensorboard --logdir {folder})")
    return trainer


def check_together(trainer: Trainer, folder: Path) -> None:
    """All processes go on from one step: on machines that share no folder each sees a last.pth of its own, or none."""
    steps = distributed.gather([trainer.step])
    if len(set(steps)) > 1:
        raise ConfigError(
            f"The processes would go on from different steps ({', '.join(map(str, steps))}) of {folder}: give --out in "
            f"a folder that all machines share, or copy one {checkpoint.LAST} to each of them."
        )


def run_steps(experiment: Any, steps: Sequence[Step], world: World, folder: Path, resume: bool) -> dict[str, float]:
    """Several runs in the folder, of which --resume goes on with the one that was cut."""
    for step in steps:
        check_world(step.experiment, world)
        check_unoccupied(folder / step.name, resume)
    if world.is_main:
        record(folder, config.to_yaml(experiment), experiment.train.seed, world.device, world.size)
    for step in steps:
        trainer = run(step.experiment, world, folder / step.name, resume, step.init, step.open)
        if trainer.stopped:
            return {}
    return trainer.best or {}


def judge(experiment: Any, world: World, weights: str | None) -> dict[str, float]:
    if weights is None:
        raise ConfigError(
            "--eval-only judges the weights given by --init: name a checkpoint, such as runs/NAME/best.pth."
        )
    task = tasks[experiment.task].open_training(experiment, world, Log(None))
    task.load_strict(weights)
    figures = task.evaluate(task.model.to(world.device))
    if world.is_main:
        print("  ".join(f"{key} {value:.4f}" for key, value in figures.items()))
    return figures
