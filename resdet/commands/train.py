"""`resdet train`: trains the model of a config into a run folder."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from resdet import config
from resdet.config.experiment import Experiment
from resdet.engine import checkpoint, distributed
from resdet.engine.callbacks import Callback, Callbacks
from resdet.engine.callbacks import callbacks as known_callbacks
from resdet.engine.distributed import World
from resdet.engine.log import Log
from resdet.engine.loggers.registry import Logger
from resdet.engine.loggers.registry import loggers as known_loggers
from resdet.engine.metrics_file import METRICS
from resdet.engine.run import Run
from resdet.engine.run_folder import check_unoccupied, claim_folder, is_own
from resdet.engine.run_record import CONFIG, read_record, recorded
from resdet.engine.trainer import Trainer, be_deterministic, check_monitor
from resdet.engine.training import TrainingTask
from resdet.engine.user_parts import find
from resdet.errors import ConfigError, FileError, WeightsError, spelled
from resdet.files.atomic import check_folder, write_json
from resdet.progress import Activity, say
from resdet.tasks import Step, tasks
from resdet.weights import zoo

# Outputs of an evaluation in the run folder, in addition to the checkpoint.
OUTPUTS = {"results": "results.json", "pictures": "pictures"}

TRAIN_IMAGES, TRAIN_IMAGE_COUNT = "train_images.jpg", 8


def train(
    experiment: Experiment,
    out: str | None = None,
    resume: bool = False,
    init: str | None = None,
    eval_only: bool = False,
    json_path: str | None = None,
    callbacks: Sequence[Callback] = (),
) -> dict[str, float]:
    """Trains like `resdet train`; returns the metrics of the best evaluation.

    `out`: folder of the run (default: runs/NAME); `resume` continues the run in it; `init`: initial weights;
    `eval_only` evaluates them instead of training. The metrics are also written to `json_path`. `callbacks` are called
    after those of `train.callbacks`.
    """
    if not isinstance(experiment, Experiment):
        raise ConfigError(f"{spelled(experiment)} is not a loaded config: give resdet.config.load(NAME_OR_PATH, …).")
    world = distributed.join(experiment.train.device, experiment.train.ddp.timeout)
    try:
        with distributed.tell_loss(lambda: "outside of training"):
            check_world(experiment, world)
            if init and not zoo.is_known(init):
                raise WeightsError(f"{init}: no such file, and no published model: give the weights of --init.")
            if experiment.train.deterministic:
                be_deterministic()
            if eval_only:
                metrics = evaluate(experiment, world, init)
            else:
                metrics = run_in_folder(experiment, world, out, resume, init, callbacks)
            if world.is_main:
                write_json(json_path, metrics)
            return metrics
    finally:
        distributed.leave()


def run_in_folder(
    experiment: Experiment,
    world: World,
    out: str | None,
    resume: bool,
    init: str | None,
    callbacks: Sequence[Callback],
) -> dict[str, float]:
    """Trains in a separate folder; returns the metrics of the best evaluation."""
    check_folder(out or "runs")
    with ExitStack() as claims:
        patience = experiment.train.ddp.timeout / 2  # half the timeout of the other processes, which wait for this one
        claim = lambda: claims.enter_context(claim_folder(experiment.name, out, resume, patience))
        folder = distributed.from_main(claim)
        resume = resume or distributed.from_main(lambda: is_own(folder))
        task = tasks[experiment.task]
        steps = task.steps(experiment, folder, init)
        if steps:
            return run_steps(experiment, steps, world, folder, resume, callbacks)
        only = Step(folder.name, experiment, task.open_training, init)
        return run(only, world, folder, resume, callbacks).best or {}


def check_world(experiment: Experiment, world: World) -> None:
    shares = world.size * experiment.train.accumulate
    if experiment.train.batch < shares:
        raise ConfigError(
            f"train.batch is {experiment.train.batch}: give at least {shares}, one image for each of {world.size} "
            f"processes × {experiment.train.accumulate} micro-batches (train.accumulate)."
        )


def run(step: Step, world: World, folder: Path, resume: bool, callbacks: Sequence[Callback]) -> Trainer:
    """Runs training to its end, or until a signal or a callback stops it."""
    experiment = step.experiment
    log = Log(folder if world.is_main else None)
    loggers, called = build_observers(experiment, callbacks)
    resumes = resume and (folder / checkpoint.LAST).exists()
    if resume and not resumes:
        log.info(f"{folder} has no {checkpoint.LAST}: the run starts at step 0")
    if resumes and experiment.auto:
        experiment = config.with_choices(experiment, config.load(folder / CONFIG))
    with Activity("opening the data and the model"):
        task = step.open(experiment, world, log, step.init)
    experiment = task.experiment
    check_data(task, log, resumes)
    if not (resumes or step.init):
        task.initialize(log)
    if world.is_main and not resumes:
        write_train_images(task, folder, log)
    trainer = Trainer(task, experiment.optim, experiment.schedule, experiment.train, world, folder)
    before = trainer.resume()["experiment"] if resumes else None
    check_same_step(trainer, folder)
    if before:
        log_resumption(trainer, before, experiment, log)
    try:
        with record_of(folder, experiment, world):
            log.open(trainer.step, trainer.evaluation_due)
            watched = Run(folder, config.to_dict(experiment), task.model, trainer.total, trainer.step)
            log.add_loggers(loggers, watched)
            trainer.callbacks = Callbacks(called, watched)
            best = trainer.run(log)
    except FileError as error:
        remedy = f"resume from step {trainer.saved} with --resume" if trainer.saved else "start again"
        raise FileError(f"{str(error).rstrip('.')}, then {remedy}.") from error
    finally:
        log.close(trainer.complete)
    if world.is_main and best:
        print_best(best, folder)
    return trainer


def record_of(folder: Path, experiment: Experiment, world: World) -> AbstractContextManager[None]:
    """Returns a context that writes the record of a run on rank 0."""
    if not world.is_main:
        return nullcontext()
    return recorded(folder, config.to_yaml(experiment), experiment.train.seed, world.device, world.size)


def check_data(task: TrainingTask, log: Log, resumes: bool) -> None:
    """Before a new run, reads the headers of all images; checks the ground truth."""
    if not distributed.from_main(lambda: resumes):  # checking a million images takes minutes
        task.check_images(log)
    with Activity("checking the ground truth"):
        known = distributed.from_main(task.monitors)
    check_monitor(task.experiment.train.monitor or task.monitor, known)


def write_train_images(task: TrainingTask, folder: Path, log: Log) -> None:
    """Draws the first augmented training images, to check augmentation and labels."""
    from resdet.images.encode import write_image
    from resdet.results.visualizer import fitted, sheet

    pictures = [fitted(picture) for picture in task.train_images(TRAIN_IMAGE_COUNT)]
    if pictures:
        write_image(folder / TRAIN_IMAGES, sheet(pictures, columns=4))
        log.info(f"the first training images, as augmented: {folder / TRAIN_IMAGES}")


def log_resumption(trainer: Trainer, before: dict[str, Any], experiment: Experiment, log: Log) -> None:
    """Logs the step of the checkpoint and later changes to the config; `before`: the experiment in the checkpoint."""
    log.info(f"resuming from step {trainer.step} of {trainer.out / checkpoint.LAST}")
    size = trainer.world.size
    processes = read_record(trainer.out).get("processes", size)
    if processes != size:
        log.info(
            f"processes were {processes} and are {size}: a step still takes {experiment.train.batch} images in all, "
            "at the same learning rate"
        )
    for key, (old, new) in config.differences(before, config.to_dict(experiment)).items():
        log.info(f"changed since the checkpoint: {key} was {spelled(old)} and is {spelled(new)}")


def print_best(best: dict[str, float], folder: Path) -> None:
    """Prints the metrics of the best evaluation, and the outputs of the run."""
    metrics = "  ".join(f"{key} {value:.4f}" for key, value in best.items() if key != "step")
    print(f"best at step {best['step']}: {metrics}")
    print(f"checkpoint: {folder / checkpoint.BEST}")
    for name, file in OUTPUTS.items():
        if (folder / file).exists():
            print(f"{name + ':':11} {folder / file}")
    curves = f" (curves: tensorboard --logdir {folder})" if (folder / "tensorboard").exists() else ""
    print(f"metrics:    {folder / METRICS}{curves}")


def build_observers(experiment: Experiment, given: Sequence[Callback]) -> tuple[list[Logger], list[Callback]]:
    """Builds, on rank 0, the loggers and callbacks of the config; appends the callbacks `given`."""
    loggers: list[Logger] = []
    callbacks: list[Callback] = []

    def build() -> None:
        loggers.extend(find(known_loggers, name)() for name in logger_names(experiment.train.loggers))
        callbacks.extend([*(find(known_callbacks, name)() for name in experiment.train.callbacks), *given])

    distributed.from_main(build)
    return loggers, callbacks


def logger_names(names: list[str] | None) -> list[str]:
    """Returns the loggers of the config; by default TensorBoard if it is installed."""
    if names is None:
        return ["tensorboard"] if find_spec("tensorboard") else []
    return names


def check_same_step(trainer: Trainer, folder: Path) -> None:
    """Refuses ranks that resume from different steps: machines without a shared folder read different checkpoints."""
    steps = distributed.gather([trainer.step])
    if len(set(steps)) > 1:
        raise ConfigError(
            f"The processes would resume from different steps ({', '.join(map(str, steps))}) of {folder}: give --out "
            f"in a folder shared by all machines, or copy one {checkpoint.LAST} to each machine."
        )


def run_steps(
    experiment: Experiment,
    steps: Sequence[Step],
    world: World,
    folder: Path,
    resume: bool,
    callbacks: Sequence[Callback],
) -> dict[str, float]:
    """Trains several models, each in a separate subfolder; --resume continues the last run with a checkpoint.

    Runs before it are complete, and stay unchanged even with a greater length: later runs started from their weights.
    """
    for step in steps:
        check_world(step.experiment, world)
        check_unoccupied(folder / step.name, resume)
    with record_of(folder, experiment, world):
        return run_each(steps, world, folder, resume, callbacks)


def run_each(
    steps: Sequence[Step], world: World, folder: Path, resume: bool, callbacks: Sequence[Callback]
) -> dict[str, float]:
    """Runs the steps, starting at the last one with a checkpoint; returns the best metrics of the last step."""
    begun = distributed.from_main(lambda: [(folder / step.name / checkpoint.LAST).exists() for step in steps])
    first = max((number for number, has_begun in enumerate(begun) if has_begun), default=0)
    if first and world.is_main:
        say(f"complete and kept: {', '.join(step.name for step in steps[:first])}")
    for step in steps[first:]:
        trainer = run(step, world, folder / step.name, resume, callbacks)
        if trainer.stopped:
            return {}
    return trainer.best or {}


def evaluate(experiment: Experiment, world: World, weights: str | None) -> dict[str, float]:
    if weights is None:
        raise ConfigError("--eval-only needs weights: give a checkpoint with --init, such as runs/NAME/best.pth.")
    task = tasks[experiment.task].open_training(experiment, world, Log(None))
    notes = task.load_strict(weights)
    metrics = task.evaluate(task.model.to(world.device))
    if world.is_main:
        for note in notes:
            print(note)
        print("  ".join(f"{key} {value:.4f}" for key, value in metrics.items()))
    return metrics
