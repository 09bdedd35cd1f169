"""`resdet reproduce`: trains and evaluates rows of the paper's tables and draws its figures."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from resdet.engine.signals import defer_signals
from resdet.errors import ConfigError, DataError, Error, hint
from resdet.files.atomic import write_json
from resdet.reproduce import needs, outcome, scale
from resdet.reproduce.plan import (
    Evaluation,
    Setting,
    command,
    cost_of,
    evaluation_of,
    nets_of,
    processes_for,
    submission_words,
    train_words,
    trainings_for,
)
from resdet.reproduce.records import Figure, Row, Training
from resdet.reproduce.run_status import is_finished
from resdet.reproduce.tables import FIGURES, ROWS
from resdet.reproduce.trainings import TRAININGS

Launch = Callable[..., None]  # runs `resdet WORDS`: launch(words), or launch(words, processes) for a training run


def choose(target: str | None, names: Sequence[str] = ()) -> tuple[list[Row], list[Figure]]:
    """Returns the rows and figures of a table or figure; all if `target` is None.

    `names` selects rows of the table or nets of the figure.
    """
    if target is None and names:
        raise ConfigError(f"{names[0]} is a row or a net: name its table or figure, too, such as table6 or figure6.")
    if target is None:
        return ROWS, list(FIGURES.values())
    if target in FIGURES:
        figure = FIGURES[target]
        check_known(target, names, figure.nets)
        return [], [replace(figure, nets=tuple(net for net in figure.nets if not names or net in names))]
    rows = [row for row in ROWS if row.table == target]
    if not rows:
        known = [*dict.fromkeys(row.table for row in ROWS), *FIGURES]
        remedy = hint(target, known, f"use one of {', '.join(known)}.")
        raise ConfigError(f"There is no table or figure named {target!r}: {remedy}")
    check_known(target, names, [row.name for row in rows])
    return [row for row in rows if not names or row.name in names], []


def check_known(target: str, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise ConfigError(f"{target} has no row or net {name!r}: use one of {', '.join(known)}.")


def parse_given(pairs: Sequence[str]) -> dict[str, str]:
    """Parses the values of --use to {training: weights file}."""
    given = dict(pair.partition("=")[::2] for pair in pairs)
    for name, file in given.items():
        if name not in TRAININGS or not file:
            raise ConfigError(f"--use is {name}={file}: give TRAINING=FILE, with one of {', '.join(TRAININGS)}.")
    return given


def list_rows(target: str | None, names: Sequence[str], setting: Setting, json_path: str | None = None) -> None:
    chosen, figures = choose(target, names)
    if figures and not chosen:
        raise ConfigError(f"{target} has nets, not rows: `resdet reproduce {target} --dry-run` lists them.")
    rows = outcome.describe_rows(chosen, setting)
    print(outcome.rows_table(rows))
    write_json(json_path, rows)


def reproduce(
    rows: Sequence[Row],
    figures: Sequence[Figure],
    setting: Setting,
    launch: Launch,
    dry_run: bool = False,
    json_path: str | None = None,
) -> list[dict[str, Any]]:
    """Runs all missing training runs and evaluations; returns the metrics with the paper's, one dict per row.

    Interrupted training runs resume from their checkpoints; finished evaluations are not repeated.
    """
    nets = [*nets_of(rows), *(name for figure in figures for name in figure.nets)]
    trainings = trainings_for(nets, setting.given)
    for training in trainings:
        scale.check(training.name, setting.experiment(training), setting.scale)
    lacking = {} if setting.small else needs.missing(trainings, rows, setting)
    if dry_run:
        plan = plan_of(trainings, rows, figures, setting, list(lacking.values()))
        print_plan(plan)
        write_json(json_path, plan)
        return []
    prepare(trainings, lacking, setting, launch)
    for training in trainings:
        train(training, setting, launch)
    outcomes = [evaluate(row, setting, launch) for row in rows]
    for figure in figures:
        draw(figure, setting)
    if outcomes:
        print(outcome.compare(outcomes))
    write_json(json_path, outcomes)
    return outcomes


def plan_of(
    trainings: Sequence[Training], rows: Sequence[Row], figures: Sequence[Figure], setting: Setting, lacking: list[str]
) -> dict[str, Any]:
    """Returns all commands with their costs."""
    tests = {evaluation_of(row, setting).words: row for row in rows}
    submitted = [row for row in rows if row.server and not setting.small]
    return {
        "missing": lacking,
        "trainings": [
            {"name": t.name, "cost": training_cost(t, setting), "command": command(train_words(t, setting))}
            for t in trainings
        ],
        "tests": [
            {
                "name": row.key,
                "cost": cost_of(row.test_config) if row.test_config and not setting.small else None,
                "command": command(words),
            }
            for words, row in tests.items()
        ],
        "submissions": [
            {"name": row.key, "server": row.server, "command": command(submission_words(row, setting))}
            for row in submitted
        ],
        "figures": [{"name": figure.name, "file": str(setting.out / figure.name)} for figure in figures],
    }


def training_cost(training: Training, setting: Setting) -> str | None:
    """Returns the cost stated in the header of the config, for the full length; None for a miniature run."""
    if setting.small:
        return None
    share = "" if setting.scale == 1 else f"{setting.scale} of that of the full length, "
    return f"{share}{cost_of(training.config)}"


def print_plan(plan: dict[str, Any]) -> None:
    """Prints the plan as a shell script."""
    for sentence in plan["missing"]:
        print(f"# missing  {sentence}")
    for step in (*plan["trainings"], *plan["tests"]):
        if step["cost"]:
            print(f"# cost     {step['name']}: {step['cost']}")
        print(step["command"])
    for step in plan["submissions"]:
        print(f"# {step['name']}: the paper's metrics are from {step['server']}, which evaluates this file:")
        print(step["command"])
    for figure in plan["figures"]:
        print(f"# {figure['name']}: drawn from these runs into {figure['file']}.svg, .png and .csv")


def prepare(trainings: Sequence[Training], lacking: dict[str, str], setting: Setting, launch: Launch) -> None:
    """Prepares all data; if the user must provide some, prints it with the costs of training and raises DataError."""
    lacking = dict(lacking)
    if lacking.pop("cifar10", None):
        launch(["data", "get", "cifar10", "--root", str(setting.data_root("cifar10"))])
    if lacking:
        missing = [f"# missing  {sentence}" for sentence in lacking.values()]
        costs = [f"# cost     {training.name}: {training_cost(training, setting)}" for training in trainings]
        print(*missing, *costs, sep="\n", file=sys.stderr)
        raise DataError(f"Data of {', '.join(lacking)} is missing: provide the files listed above.")
    if not setting.small and needs.needs_trainval(trainings, setting):
        needs.write_trainval(setting.data_root("coco"))


def train(training: Training, setting: Setting, launch: Launch) -> None:
    """Trains to the end; raises Error if the run is stopped before."""
    if is_finished(training, setting):
        return
    processes = processes_for(training, setting)
    if processes < setting.processes:
        print(f"{training.name}: uses {processes} of {setting.processes} processes, so that they divide its batch")
    launch(train_words(training, setting), processes)
    if not is_finished(training, setting):
        raise Error(f"{training.name} was stopped before its end: run the same command again to resume it.")


def evaluate(row: Row, setting: Setting, launch: Launch) -> dict[str, Any]:
    """Returns the outcome of a row; also writes its test server submission if the test images exist."""
    test = evaluation_of(row, setting)
    if not is_fresh(test, row, setting):
        launch(test.words)
        outcome.write_circumstances(test)
    if row.server and not setting.small:
        submit(row, setting, launch)
    trained = [train_words(training, setting) for training in trainings_for(nets_of([row]), setting.given)]
    return outcome.write_outcome(row, setting, test, [*trained, test.words])


def is_fresh(test: Evaluation, row: Row, setting: Setting) -> bool:
    """Whether the evaluation is newer than the weights of its nets."""
    if not test.circumstances.exists():
        return False
    weights = [Path(setting.weights(name)) for name in nets_of([row])]
    return all(test.circumstances.stat().st_mtime >= path.stat().st_mtime for path in weights if path.exists())


def submit(row: Row, setting: Setting, launch: Launch) -> None:
    words = submission_words(row, setting)
    try:
        launch(words)
        print(f"submit {words[-1]} to {row.server} for the metrics that the paper reports for {row.key}")
    except Error as error:
        print(f"no submission for {row.server}: {error}", file=sys.stderr)


def draw(figure: Figure, setting: Setting) -> None:
    from resdet.reproduce import figures

    weights = {name: Path(setting.weights(name)) for name in figure.nets}
    if setting.scale != 1:
        figure = replace(figure, title=f"{figure.title}, with {setting.scale} of the training lengths")
    for path in figures.draw(figure, weights, setting.out):
        print(path)


def in_processes(words: Sequence[str], processes: int = 1) -> None:
    """Runs `resdet WORDS` as a subprocess, under torchrun if `processes` > 1."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    launcher = torchrun if processes > 1 else []
    with subprocess.Popen([sys.executable, *launcher, "-m", "resdet.cli", *words], stdout=sys.stdout) as process:
        status = wait_for(process)
    if status:
        raise Error(f"`{command(words)}` failed with status {status}: see its output above.")


def wait_for(process: subprocess.Popen) -> int:
    """Returns the exit status of the process. Forwards a stop signal, so that training saves a checkpoint first."""
    passed_on = False
    with defer_signals() as signals:
        while (status := status_within(process, 0.5)) is None:
            if signals.received is not None and not passed_on:
                process.send_signal(signals.received)
                passed_on = True
    return status


def status_within(process: subprocess.Popen, seconds: float) -> int | None:
    """Returns the exit status of the process; None if it is still running after `seconds`."""
    with suppress(subprocess.TimeoutExpired):
        return process.wait(seconds)
    return None
