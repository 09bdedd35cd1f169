"""Checks when a step is captured, replayed or run eagerly; tests/gpu compares captured steps with eager ones."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from resdet.engine import cuda_graph
from resdet.structures import Targets


class Stream:
    def wait_stream(self, other):
        pass


class Calls:
    """A step that counts its calls on a mock of CUDA, where a replay computes nothing."""

    def __init__(self, monkeypatch, fails: bool = False):
        self.eager = self.captured = self.replayed = 0
        self.capturing = False
        cuda = SimpleNamespace(
            Stream=Stream,
            current_stream=Stream,
            stream=lambda stream: nullcontext(),
            graph_pool_handle=lambda: None,
            CUDAGraph=lambda: SimpleNamespace(replay=self.replay),
            graph=self.graph,
        )
        monkeypatch.setattr(cuda_graph.torch, "cuda", cuda)
        monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: None)
        self.fails, self.freed = fails, 0
        self.step = cuda_graph.GraphedStep(self.run, self.free)

    def free(self):
        self.freed += 1

    def replay(self):
        self.replayed += 1

    def graph(self, graph, pool, stream, capture_error_mode):
        self.capturing = True
        return nullcontext()

    def run(self, inputs):
        if not self.capturing:
            self.eager += 1
        elif self.fails:
            self.capturing = False
            raise RuntimeError("operation not permitted when stream is capturing\nand more")
        else:
            self.captured += 1
            self.capturing = False
        return inputs[0][0].float().mean()

    def counts(self):
        return self.eager, self.captured, self.replayed


def inputs(side: int, masks: bool = False):
    field = torch.zeros(1, 2)
    targets = Targets(field, field, field, field, field if masks else None)
    return [(torch.full((1, side), float(side)), targets)]


def test_each_shape_is_captured_after_eager_steps_and_then_replayed(monkeypatch):
    calls = Calls(monkeypatch)
    for _ in range(5):
        calls.step(inputs(4))
    assert calls.counts() == (3, 1, 2) and calls.freed == 1
    for _ in range(4):
        calls.step(inputs(6))
    calls.step(inputs(6, masks=True))
    assert calls.counts() == (7, 2, 3)
    calls.step(inputs(4))
    assert calls.counts() == (7, 2, 4)


def test_a_replay_copies_the_inputs_and_returns_a_copy_of_the_output(monkeypatch):
    calls = Calls(monkeypatch)
    for _ in range(4):
        calls.step(inputs(4))
    (known,) = calls.step.captured.values()
    given = inputs(4)
    given[0][0].fill_(9)
    output = calls.step(given)
    assert known.inputs[0][0].eq(9).all() and known.inputs[0][0] is not given[0][0]
    known.output.fill_(-1)
    assert output != -1  # the next replay overwrites the graph's output buffer


def test_the_number_of_graphs_is_bounded(monkeypatch):
    calls = Calls(monkeypatch)
    for side in range(1, cuda_graph.MAX_GRAPHS + 3):
        for _ in range(5):
            calls.step(inputs(side))
    assert calls.captured == cuda_graph.MAX_GRAPHS == len(calls.step.captured)
    assert calls.eager == 3 * cuda_graph.MAX_GRAPHS + 5 * 2


def test_a_step_that_cannot_be_captured_stays_eager(monkeypatch):
    calls = Calls(monkeypatch, fails=True)
    with pytest.warns(UserWarning, match="without CUDA graphs: operation not permitted when stream is capturing"):
        for _ in range(5):
            assert calls.step(inputs(4)) == 4
    assert calls.counts() == (5, 0, 0) and calls.freed == 2  # gradients of the failed capture are freed as well


def test_the_memory_format_is_part_of_the_shape(monkeypatch):
    calls = Calls(monkeypatch)
    pixels = torch.zeros(1, 3, 4, 4)
    for images in (pixels, pixels.contiguous(memory_format=torch.channels_last)):
        for _ in range(4):
            calls.step([(images,)])
    assert calls.captured == 2
