"""Tests the step of the trainer: micro-batches, seeds, precision and graphs."""

import numpy as np
import pytest
import torch
from engine.linear import CPU, Linear, run, trainer

from resdet.engine.config import OptimConfig
from resdet.engine.distributed import World
from resdet.engine.metric_buffer import MetricBuffer, NonFiniteLoss
from resdet.engine.precision import choose_precision
from resdet.engine.train_step import divisors, step_seed
from resdet.errors import ConfigError
from resdet.structures import share


@pytest.mark.parametrize("accumulate", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_mean_over_processes_and_parts_is_that_of_the_images(size, accumulate):
    """Splits 11 images into parts of different sizes."""
    images, mean = np.random.default_rng(0).random(11), 0.0
    for rank in range(size):
        local = images[np.array(share(11, rank, size))]
        parts = [local[np.array(share(len(local), number, accumulate))].mean() for number in range(accumulate)]
        mean += sum(part / d for part, d in zip(parts, divisors(11, accumulate, World(rank, size, CPU)))) / size
    assert mean == pytest.approx(images.mean())


def test_logged_losses_weigh_unequal_parts_by_their_images(tmp_path):
    """Three images of a process in micro-batches of one and two."""
    made = trainer(Linear(), tmp_path).train_step
    made.divisors = divisors(6, 2, World(0, 2, CPU))
    parts = {"loss": torch.tensor(1.0)}, {"loss": torch.tensor(4.0)}
    assert made.mean_of(parts)["loss"].item() == pytest.approx((1 + 4 + 4) / 3)


def test_seeds_differ_by_run_step_and_process():
    seeds = [step_seed(seed, step, rank) for seed in range(3) for step in range(4) for rank in range(5)]
    assert len(set(seeds)) == 60 and 0 <= min(seeds) and max(seeds) < 2**63


def test_a_step_is_seeded_by_run_step_and_process(tmp_path):
    made = trainer(Linear(), tmp_path, seed=7).train_step
    made.world, seeds = World(3, 4, CPU), []
    made.update = lambda inputs: seeds.append(torch.initial_seed()) or torch.zeros(1)
    made(next(made.task.training.batches(0)), 5, 0.1)
    assert seeds == [step_seed(7, 5, 3)]


def test_a_loss_of_many_images_names_eight():
    window = MetricBuffer()
    for value in (1.0, torch.inf):
        row = window.row({"box": torch.tensor(1.0), "mask": torch.tensor(value)}, {"error": torch.tensor(torch.nan)})
        window.add(row, torch.arange(10))
    with pytest.raises(NonFiniteLoss, match="loss mask became inf at step 40 on 0, 1, 2, 3, 4, 5, 6, 7 and 2 more: "):
        window.check(window.table(), 40, str)
    window.check(window.table()[:1], 39, str)  # measures may be NaN


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    """The learning rate overflows in the update from a finite loss."""
    made = trainer(Linear(), tmp_path, OptimConfig(lr=1e39), checkpoint_every=1)
    with pytest.raises(NonFiniteLoss, match="weights are not finite after step 1, although its losses are"):
        run(made, tmp_path)
    assert not (tmp_path / "last.pth").exists()


def test_gradients_are_clipped_without_the_scale_of_the_loss(tmp_path):
    optim = OptimConfig(momentum=0, weight_decay=0, clip_norm=0.01)
    made = trainer(Linear(), tmp_path, optim, precision="fp16").train_step
    made.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)  # without overflow in the first step
    before = [parameter.detach().clone() for parameter in made.task.model.parameters()]
    made(next(made.task.training.batches(0)), 0, 1.0)
    moved = [parameter - old for parameter, old in zip(made.task.model.parameters(), before)]
    assert torch.cat([each.flatten() for each in moved]).norm().item() == pytest.approx(0.01, rel=1e-3)


def test_auto_precision_chooses_a_supported_one():
    assert choose_precision("auto", CPU) in ("bf16", "fp32")
    assert choose_precision("fp16", CPU) == "fp16"


@pytest.mark.parametrize("graph", [True, "auto", False])
def test_graphs_need_a_gpu(tmp_path, graph):
    if graph is True:
        with pytest.raises(ConfigError, match="train.graph=true needs one process with a CUDA device"):
            trainer(Linear(), tmp_path, graph=graph)
    else:
        assert run(trainer(Linear(), tmp_path / "run", graph=graph), tmp_path / "run")["step"] == 3
