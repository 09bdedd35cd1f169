"""Compares the trainer with plain loops and checks its errors."""

import json
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from engine.linear import Linear, run, trainer
from torch import nn
from torch.nn import functional as F

from resdet.engine.config import OptimConfig, ScheduleConfig
from resdet.engine.loggers.tensorboard import TensorBoardLogger
from resdet.engine.metric_buffer import NonFiniteLoss
from resdet.engine.trainer import be_deterministic
from resdet.errors import ConfigError, DeviceMemoryError

COMPILE = nn.Module.compile


def by_hand(optimizer_of, steps=9, clip=None, average=0.0):
    """Runs the same training as a plain loop."""
    task = Linear()
    optimizer = optimizer_of(task.model.parameters())
    averaged = {name: tensor.clone() for name, tensor in task.model.state_dict().items()}
    for step in range(steps):
        batch = task.training.draw(step)
        optimizer.zero_grad()
        F.cross_entropy(task.model(batch.images), batch.targets).backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(task.model.parameters(), clip)
        optimizer.step()
        for name, tensor in task.model.state_dict().items():
            averaged[name] = (
                tensor.clone()
                if step == 0
                else averaged[name] * average + tensor * (1 - average)
                if average
                else tensor
            )
    return task.model.state_dict(), averaged


def assert_close(first, second):
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_sgd_matches_torch_with_any_accumulation(tmp_path, accumulate):
    made = trainer(Linear(), tmp_path, accumulate=accumulate)
    run(made, tmp_path)
    expected, _ = by_hand(lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=1e-4))
    assert_close(made.task.model.state_dict(), expected)


def test_adamw_clipping_and_moving_average_match_a_plain_loop(tmp_path):
    made = trainer(Linear(), tmp_path, OptimConfig(name="adamw", lr=0.01, weight_decay=0.05, clip_norm=0.3), ema=0.8)
    run(made, tmp_path)
    expected, averaged = by_hand(lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.05), clip=0.3, average=0.8)
    assert_close(made.task.model.state_dict(), expected)
    assert_close(made.train_step.averaged.module.state_dict(), averaged)
    best = torch.load(tmp_path / "best.pth", weights_only=True)
    assert best["figures"]["step"] == 3 and best["classes"] == ["a", "b", "c"]


def test_the_best_checkpoint_contains_the_averaged_weights(tmp_path):
    made = trainer(Linear(), tmp_path, length=3, ema=0.8)
    run(made, tmp_path)
    best = torch.load(tmp_path / "best.pth", weights_only=True)["model"]
    assert all(torch.equal(best[name], tensor) for name, tensor in made.train_step.averaged.module.state_dict().items())
    assert not torch.equal(best["weight"], made.task.model.weight)


def test_a_step_after_an_evaluation_is_in_training_mode(tmp_path):
    task, modes = Linear(), []
    task.evaluate = lambda model: model.eval() and {"error": 0.5}
    made = trainer(task, tmp_path, evaluate_every=1, length=3)
    made.train_step.module.register_forward_pre_hook(lambda module, _: modes.append(module.model.training))
    run(made, tmp_path)
    assert modes == [True] * 3


def test_the_last_step_is_evaluated(tmp_path):
    made = trainer(Linear(), tmp_path, length=4, evaluate_every=3)
    run(made, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "val"] == [3, 4]


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    made = trainer(Linear(spoilt=[17]), tmp_path)
    with pytest.raises(
        NonFiniteLoss, match=r"cross_entropy became nan at step 5 on image-16, image-17, image-18, image-19: lower"
    ):
        run(made, tmp_path)
    last = torch.load(tmp_path / "last.pth", weights_only=True)
    assert last["trainer"]["step"] == 3
    assert all(torch.isfinite(tensor).all() for tensor in last["model"].values())


def test_a_loss_that_is_not_finite_is_named_before_a_checkpoint_between_log_lines(tmp_path):
    made = trainer(Linear(spoilt=[17]), tmp_path, log_every=50, checkpoint_every=1, evaluate_every=9)
    with pytest.raises(NonFiniteLoss, match="cross_entropy became nan at step 5 on image-16"):
        run(made, tmp_path)
    assert torch.load(tmp_path / "last.pth", weights_only=True)["trainer"]["step"] == 4


def test_the_best_checkpoint_is_kept_and_patience_ends_the_run(tmp_path):
    task = Linear(figures=[0.4, 0.2, 0.3, 0.25, 0.1])
    made = trainer(task, tmp_path, length=100, patience=2)
    best = run(made, tmp_path)
    assert (best["error"], best["step"], made.step) == (0.2, 6, 12)
    assert torch.load(tmp_path / "best.pth", weights_only=True)["figures"] == {"error": 0.2, "step": 6}
    assert torch.load(tmp_path / "last.pth", weights_only=True)["trainer"]["step"] == 12


def test_the_monitored_metric_selects_the_best_checkpoint(tmp_path):
    """Monitors a metric of which higher values are better; the error would select step 6."""
    task = Linear()
    shares = iter([(0.4, 0.1), (0.2, 0.5), (0.3, 0.7), (0.25, 0.6), (0.1, 0.6)])
    task.evaluate = lambda model: dict(zip(("error", "recall"), next(shares)))
    made = trainer(task, tmp_path, length=100, patience=2, monitor="recall")
    assert run(made, tmp_path) == {"error": 0.3, "recall": 0.7, "step": 9} and made.step == 15


def test_an_unknown_monitored_metric_is_refused_and_the_run_resumes_with_another(tmp_path):
    made = trainer(Linear(), tmp_path, monitor="AP50")
    with pytest.raises(ConfigError) as caught:
        run(made, tmp_path)
    assert caught.value.key == "train.monitor"
    assert str(caught.value) == (
        "train.monitor is AP50, which the evaluations do not compute: choose one of error, or null; "
        f"{tmp_path / 'last.pth'} of step 3 is saved, continue with --resume."
    )
    again = trainer(Linear(figures=[0.3]), tmp_path, length=3)
    again.resume()
    assert run(again, tmp_path) == {"error": 0.3, "step": 3}


def test_a_run_stopped_early_continues_only_with_more_patience(tmp_path):
    run(trainer(Linear(figures=[0.2, 0.3, 0.3]), tmp_path, length=100, patience=2), tmp_path)
    again = trainer(Linear(), tmp_path, length=100, patience=2)
    again.resume()
    run(again, tmp_path)
    assert again.step == 9
    longer = trainer(Linear(figures=[0.3]), tmp_path, length=100, patience=3)
    longer.resume()
    run(longer, tmp_path)
    assert longer.step == 12


def test_a_complete_run_names_the_key_that_continues_it(tmp_path, capsys):
    for _ in range(2):
        made = trainer(Linear(), tmp_path, length=6)
        if (tmp_path / "last.pth").exists():
            made.resume()
        run(made, tmp_path)
    assert "the run is complete: step 6 of 6; a larger train.length continues it" in capsys.readouterr().err


def test_each_epoch_is_evaluated_once(tmp_path):
    task = Linear()
    task.training.steps_per_epoch = 6.5
    made = trainer(task, tmp_path, unit="epochs", length=3, evaluate_every=1)
    run(made, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "val"] == [7, 13, 20]


def test_length_and_milestones_in_epochs(tmp_path):
    made = trainer(Linear(), tmp_path, schedule=ScheduleConfig(milestones=[1]), unit="epochs", length=2.5)
    assert (made.total, made.schedule.milestones) == (15, [6])


def test_the_log_contains_the_mean_losses(tmp_path):
    """Compares the logged loss with that of the untrained model, which a tiny learning rate leaves unchanged."""
    made = trainer(Linear(), tmp_path, OptimConfig(lr=1e-12))
    run(made, tmp_path)
    untouched = Linear()
    batches = [untouched.training.draw(step) for step in range(3)]
    expected = np.mean([F.cross_entropy(untouched.model(b.images), b.targets).item() for b in batches])
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["kind"]) for line in lines] == [(s, k) for s in (3, 6, 9) for k in ("train", "val")]
    assert lines[0]["cross_entropy"] == pytest.approx(expected, rel=1e-4)
    assert {"lr", "images/s", "data", "error"} <= lines[0].keys()


def test_the_scaled_learning_rate_is_logged(tmp_path, capsys):
    made = trainer(Linear(), tmp_path, OptimConfig(lr=0.1, base_batch=256), length=3)
    run(made, tmp_path)
    assert "learning rate 0.0015625, scaled from 0.1 for a batch of 256" in capsys.readouterr().err


def test_tensorboard_contains_the_metrics(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(trainer(Linear(figures=[0.4, 0.3, 0.2]), tmp_path), tmp_path, [TensorBoardLogger()])
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, round(e.value, 3)) for e in events.Scalars("val/error")] == [(3, 0.4), (6, 0.3), (9, 0.2)]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_training_in_half_precision(tmp_path, precision, capsys):
    made = trainer(
        Linear(), tmp_path, precision=precision, length=60, log_every=30, evaluate_every=60, checkpoint_every=60
    )
    run(made, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[1]["cross_entropy"] < lines[0]["cross_entropy"] < 2
    assert ("very slowly: set train.precision=auto" in capsys.readouterr().err) == (precision == "fp16")


@pytest.mark.parametrize("gpu", [False, True])
def test_nondeterministic_operators_only_warn_on_a_gpu(gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    try:
        be_deterministic()
        assert torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.benchmark
        assert torch.is_deterministic_algorithms_warn_only_enabled() is gpu
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("deterministic", [False, True])
def test_cudnn_searches_algorithms_in_steps_only(deterministic, tmp_path):
    """Checks that cudnn.benchmark is off in evaluations, whose image shapes vary, and in deterministic training."""
    task, in_steps, in_evaluations = Linear(), [], []
    made = trainer(task, tmp_path)
    task.step.register_forward_hook(lambda *_: in_steps.append(torch.backends.cudnn.benchmark))
    evaluate = task.evaluate
    task.evaluate = lambda model: in_evaluations.append(torch.backends.cudnn.benchmark) or evaluate(model)
    torch.use_deterministic_algorithms(deterministic)
    try:
        run(made, tmp_path)
    finally:
        torch.use_deterministic_algorithms(False)
    assert in_steps == [not deterministic] * 9 and in_evaluations == [False] * 3


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_steps_equal_eager_ones(tmp_path, monkeypatch, backend):
    compiled_by = []

    def compile(step, **options):
        compiled_by.append(backend)
        COMPILE(step, backend=backend, **options)

    monkeypatch.setattr(nn.Module, "compile", compile)
    eager, compiled = (trainer(Linear(), tmp_path / name, compile=name == "compiled") for name in ("eager", "compiled"))
    for made in (eager, compiled):
        run(made, made.out)
    assert_close(compiled.task.model.state_dict(), eager.task.model.state_dict())
    assert compiled_by == [backend]


def test_a_best_result_without_the_metric_is_replaced(tmp_path):
    """Resumes a run with another eval.metric than the best evaluation used."""
    made = trainer(Linear(figures=[0.9, 0.8, 0.7]), tmp_path / "run")
    made.best = {"AP": 0.3, "step": 0}
    assert run(made, tmp_path / "run") == {"error": 0.7, "step": 9}


def test_a_nan_metric_is_the_best_only_if_it_is_the_first(tmp_path):
    """Evaluates to NaN at first, as a metric of few objects may, and again later; best.pth exists in any case."""
    nan = float("nan")
    plateau = ScheduleConfig("plateau", patience=2)
    made = trainer(Linear(figures=[nan, 0.4, nan, 0.3]), tmp_path / "run", schedule=plateau, length=12)
    assert run(made, tmp_path / "run") == {"error": 0.3, "step": 12}
    assert (made.best["error"], made.schedule.reductions) == (0.3, 0)
    invalid = lambda name: pytest.fail(f"{name} is not JSON")
    lines = [json.loads(line, parse_constant=invalid) for line in (tmp_path / "run/metrics.jsonl").open()]
    assert [entry.get("error") for entry in lines if entry["kind"] == "val"] == [None, 0.4, None, 0.3]
    made = trainer(Linear(figures=[nan, nan]), tmp_path / "nan", schedule=plateau, length=6)
    assert run(made, tmp_path / "nan")["step"] == 3 and made.waited == 1 and made.schedule.reductions == 1
    assert torch.load(tmp_path / "nan/best.pth")["figures"]["step"] == 3


def test_a_nan_best_metric_of_an_earlier_version_is_replaced(tmp_path):
    made = trainer(Linear(figures=[0.9]), tmp_path / "run", length=3)
    made.best = {"error": float("nan"), "step": 0}
    assert run(made, tmp_path / "run") == {"error": 0.9, "step": 3}


def test_the_plateau_of_another_metric_is_forgotten(tmp_path):
    """Resumes a run, whose best AP was 0.3, with the error as metric: it falls at each evaluation."""
    made = trainer(Linear(figures=[0.9, 0.8, 0.7]), tmp_path / "run", schedule=ScheduleConfig("plateau", patience=2))
    made.best, made.schedule.waited = {"AP": 0.3, "step": 0}, 1
    run(made, tmp_path / "run")
    assert (made.schedule.reductions, made.best["error"]) == (0, 0.7)


def test_an_average_added_on_resume_starts_from_the_resumed_weights(tmp_path):
    run(trainer(Linear(), tmp_path / "run"), tmp_path / "run")
    made = trainer(Linear(), tmp_path / "run", ema=0.9)
    made.resume()
    for average, weight in zip(made.train_step.evaluated_model().parameters(), made.task.model.parameters()):
        assert torch.equal(average, weight)


def test_a_resumed_run_knows_its_checkpoint(tmp_path):
    run(trainer(Linear(), tmp_path, length=3), tmp_path)
    resumed = trainer(Linear(), tmp_path)
    resumed.resume()
    assert resumed.resume_hint().endswith("last.pth of step 3 is saved, continue with --resume")


def test_a_full_gpu_ends_a_run_with_a_short_message(tmp_path, monkeypatch):
    made = trainer(Linear(), tmp_path, length=9)

    def update(inputs):
        if made.step == 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return update_weights(inputs)

    update_weights = made.train_step.update
    monkeypatch.setattr(made.train_step, "update", update)
    with pytest.raises(DeviceMemoryError, match=r"A step of 4 images .* set train.accumulate=2, .* of step 3 is saved"):
        run(made, tmp_path)


def test_a_full_gpu_in_an_evaluation_keeps_the_checkpoint(tmp_path, monkeypatch):
    made = trainer(Linear(), tmp_path)

    def evaluate(model):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(made.task, "evaluate", evaluate)
    with pytest.raises(DeviceMemoryError, match=r"The evaluation .* lower eval.batch.* of step 3 is saved"):
        run(made, tmp_path)


def test_a_run_resumed_with_another_batch_continues_in_the_same_epoch(tmp_path):
    """Doubles the steps of an epoch after one of three epochs: the learning rate falls after the second one."""
    epochs = {"unit": "epochs", "evaluate_every": 1, "checkpoint_every": 1}
    schedule = ScheduleConfig(name="step", milestones=[2], gamma=0.5)
    first = trainer(Linear(), tmp_path, schedule=schedule, length=1, **epochs)
    run(first, tmp_path)
    task = Linear()
    task.training.steps_per_epoch = 2 * first.step
    resumed = trainer(task, tmp_path, schedule=schedule, length=3, **epochs)
    resumed.resume()
    assert resumed.step == first.step == 6 and resumed.total == 6 + 24
    lrs = []
    take_step = resumed.train_step
    resumed.train_step.update = lambda inputs, update=take_step.update: lrs.append(take_step.lr) or update(inputs)
    run(resumed, tmp_path)
    assert lrs == [0.1] * 12 + [0.05] * 12


@pytest.mark.parametrize("classes, refused", [(["bus", "car"], False), (["bus", "van"], False), (["car", "bus"], True)])
def test_a_run_is_not_resumed_with_classes_in_another_order(tmp_path, monkeypatch, classes, refused):
    describe = Linear.description
    monkeypatch.setattr(Linear, "description", lambda task: describe(task) | {"classes": ["bus", "car"]})
    run(trainer(Linear(), tmp_path), tmp_path)
    monkeypatch.setattr(Linear, "description", lambda task: describe(task) | {"classes": classes})
    resumed = trainer(Linear(), tmp_path)
    sentence = "has the class car as number 1, and the data has it as number 0"
    with pytest.raises(ConfigError, match=sentence) if refused else nullcontext():
        resumed.resume()
