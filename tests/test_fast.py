"""Tests the fast mode: number of compiled graphs, results of the eager model, all kinds of models, no compiler."""

import copy
import logging

import numpy as np
import pytest
import torch
from detection.heads import tiny
from localization.test_classify_and_locate import classifier, localizer
from localization.test_rcnn_model import build_rcnn
from narrow import shallow_nets
from torch import nn

import resdet
from resdet.compilation import CompiledPerShape
from resdet.config.experiment import to_dict
from resdet.detection.config import DetectionExperiment
from resdet.detection.data.buckets import buckets, inference_shape, inference_shapes
from resdet.detection.data.collate import COMPILED_ROOM, padded_count
from resdet.detection.evaluation import evaluate
from resdet.detection.objects_training import LossesStep
from resdet.engine.distributed import World
from resdet.errors import ConfigError
from resdet.fast import PAYS, accelerate, eager_elements, fast_dtype
from resdet.onednn import PackedConv2d, packed_types
from resdet.structures import Images, Targets

pytest.importorskip("torchvision")


@pytest.fixture(autouse=True)
def fresh():
    torch.compiler.reset()


class Backend:
    """A backend of torch.compile that counts graphs and runs them without compilation."""

    def __init__(self):
        self.graphs = 0

    def __call__(self, graph, inputs):
        self.graphs += 1
        return graph.forward


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=(height, width, 3), dtype=np.uint8)


def detector():
    with shallow_nets():
        model = tiny.make("fpn")
    model.input.min_size, model.input.max_size = 64, 96
    return model.eval()


def test_twenty_shapes_compile_few_graphs_with_the_results_of_the_eager_model():
    """Compares with the padded eager model, for varying score thresholds; very narrow images are included."""
    rng = np.random.default_rng(0)
    sides = [(64, 64 + 8 * n) for n in range(9)]
    sizes = [*sides, *[size[::-1] for size in sides], (20, 300), (300, 20)]
    images = [picture(*size, seed) for seed, size in enumerate(rng.permutation(sizes).tolist())]
    assert len({image.shape for image in images}) >= 19
    model, backend = detector(), Backend()
    eager = accelerate(copy.deepcopy(model), torch.float32, compile=False)
    eager.shapes = inference_shapes(64, 96)
    fast = accelerate(model, torch.float32, compile=True, backend=backend)
    found = [fast.predict(image, score=0.2 + seed / 1000) for seed, image in enumerate(images)]
    expected = [eager.predict(image, score=0.2 + seed / 1000) for seed, image in enumerate(images)]
    for one, other in zip(found, expected):
        assert len(one) == len(other) > 0
        np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-3)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
        assert one.rles == other.rles
    masks = fast.roi_heads.mask_head.forward.graphs
    assert len(fast.detect_above.graphs) == len(eager.shapes) == 3 and len(masks) <= 5
    assert backend.graphs == len(fast.detect_above.graphs) + len(masks)


def test_inference_shapes_hold_portrait_and_landscape_images():
    for short, long, limit in ((800, 1333, 1333), (300, 1000, 534), (160, 160, 160), (600, 1000, 1000)):
        shapes = inference_shapes(short, long)
        assert len(shapes) <= 7 and len({*shapes}) == len(shapes)
        assert all(side % 32 == 0 for shape in shapes for side in shape)
        for side in range(short, limit + 1):
            for height, width in ((short, side), (side, short)):
                shape = inference_shape(height, width, shapes, 32)
                assert shape in shapes and shape[0] >= height and shape[1] >= width
    assert inference_shape(300, 1000, inference_shapes(300, 1000), 32) == (320, 1024)
    assert inference_shape(33, 50, [], 32) == (64, 64)


def test_more_shapes_than_the_limit_run_eagerly():
    """Compiles three functions of one code object; together they exceed dynamo's limit of graphs per code object."""
    for offset in range(3):
        backend = Backend()
        function = CompiledPerShape(lambda x: x * 2 + offset, limit=4, backend=backend)
        for _ in range(2):
            for n in range(1, 12):
                assert torch.equal(function(torch.ones(n)), torch.full((n,), 2.0 + offset))
        assert backend.graphs == len(function.graphs) == 4


def test_a_shape_is_compiled_after_enough_elements():
    backend = Backend()
    function = CompiledPerShape(lambda x, y: x + y, after=100, backend=backend)
    counts = []
    for _ in range(6):
        function(torch.ones(30), torch.ones(1))
        function(torch.ones(20), torch.ones(1))
        counts.append(backend.graphs)
    assert counts == [0, 0, 0, 0, 1, 2]


@pytest.mark.parametrize("deterministic", [False, True])
def test_cudnn_benchmark_is_on_for_recurring_shapes(deterministic):
    """Checks that cudnn.benchmark is on for recurring and for compiled shapes, unless algorithms are deterministic."""
    found = []
    torch.use_deterministic_algorithms(deterministic)
    try:
        function = CompiledPerShape(lambda x: found.append(torch.backends.cudnn.benchmark), after=40, backend=Backend())
        for n in (20, 30, 20, 30):
            function(torch.ones(n))
        assert found == [False, False, not deterministic, not deterministic]
        compiled = CompiledPerShape(lambda x: x + 1, backend=lambda graph, inputs: call)
        call = lambda *inputs: found.append(torch.backends.cudnn.benchmark) or inputs
        compiled(torch.ones(20))
        assert found[4:] == [not deterministic] and not torch.backends.cudnn.benchmark
    finally:
        torch.use_deterministic_algorithms(False)


def test_inference_continues_without_a_compiler(caplog):
    def broken(graph, inputs):
        raise RuntimeError("no C++ compiler")

    function = CompiledPerShape(lambda x: x + 1, backend=broken)
    with caplog.at_level(logging.WARNING, "resdet"):
        for n in (2, 2, 3):
            assert torch.equal(function(torch.ones(n)), torch.full((n,), 2.0))
    (record,) = caplog.records
    assert "continues without it" in record.getMessage() and "no C++ compiler" in record.getMessage()


def test_a_copy_compiles_its_own_weights():
    model = accelerate(classifier().eval(), torch.float32, compile=True, backend=Backend())
    images = torch.from_numpy(picture(32, 32)).permute(2, 0, 1)[None]
    with torch.no_grad():
        before = model(images)
        other = copy.deepcopy(model)
        for parameter in other.parameters():
            parameter.zero_()
        assert not other(images).any() and torch.equal(model(images), before) and before.any()


def rcnn(tmp_path):
    return build_rcnn(localizer(), tmp_path)


def predictions(model: nn.Module, image: np.ndarray) -> list[np.ndarray]:
    if model.task == "classification":
        result = model.predict([image] * 2, top=2)[0]
        return [result.labels, result.scores]
    (result,) = model.predict([image], [[0, 1]])
    return [result.boxes, result.scores]


@pytest.mark.parametrize("make", [lambda _: classifier(), lambda _: localizer(), rcnn])
def test_fast_models_predict_like_eager_ones(make, narrow, tmp_path):
    image = picture(70, 60)
    model, backend = make(tmp_path).eval(), Backend()
    expected = predictions(model, image)
    found = predictions(accelerate(model, torch.float32, compile=True, backend=backend), image)
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)
    assert backend.graphs >= 1


@pytest.mark.parametrize(
    ("cpu", "onednn", "dtype"),
    [(True, True, torch.bfloat16), (False, True, torch.float32), (True, False, torch.float32)],
)
def test_bfloat16_only_if_the_cpu_and_onednn_compute_in_it(cpu, onednn, dtype, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: cpu)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: onednn)
    assert fast_dtype(torch.device("cpu")) == dtype
    model = accelerate(classifier(), compile=False)
    assert next(model.parameters()).dtype == dtype


def test_auto_compiles_on_a_gpu_once_it_pays():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert (eager_elements("auto", gpu), eager_elements("auto", cpu)) == (PAYS, None)
    assert [eager_elements(True, device) for device in (cpu, gpu)] == [0, 0]
    assert [eager_elements(False, device) for device in (cpu, gpu)] == [None, None]
    assert PAYS / (3 * 800 * 1344) == pytest.approx(500, rel=0.01)  # images


def test_auto_packs_on_a_cpu_and_compiles_nothing():
    def compiled_and_packed(dtype, compile):
        model = accelerate(classifier(), dtype, compile)
        return "forward" in vars(model), any(isinstance(module, PackedConv2d) for module in model.modules())

    packs = torch.float32 in packed_types()
    assert compiled_and_packed(torch.float32, "auto") == compiled_and_packed(torch.float32, False) == (False, packs)
    assert compiled_and_packed(torch.float32, True) == (True, False)
    model = accelerate(classifier(), torch.float32, compile=True)
    assert model.forward.after == 0 and model.forward.limit == 8


def test_load_takes_a_mode_and_a_device(tmp_path, monkeypatch):
    path = tmp_path / "a.pth"
    monkeypatch.setattr(resdet.hub, "load_model", lambda path: classifier().eval())
    exact, fast = resdet.load(path), resdet.load(path, mode="fast", device="cpu", compile=False)
    norms = [sum(isinstance(m, nn.BatchNorm2d) for m in model.modules()) for model in (exact, fast)]
    assert norms[0] > 0 and norms[1] == 0 and not any(p.requires_grad for p in fast.parameters())
    assert resdet.load(path, device="meta").normalize.std.device.type == "meta"
    with pytest.raises(ConfigError, match="mode is 'quick'"):
        resdet.load(path, mode="quick")


@pytest.mark.parametrize("make", [classifier, detector])
def test_predict_moves_the_model_to_the_device(make):
    model = make()
    assert model.predict([], device="meta") == [] and model.normalize.std.device.type == "meta"


class Sum(nn.Module):
    def losses(self, images: Images, targets: Targets) -> dict[str, torch.Tensor]:
        return {"sum": images.pixels.float().mean() + targets.boxes.sum()}


def test_compiled_training_has_two_graphs_for_each_shape_of_images():
    """Pads objects as the loader does; past dynamo's limit of 8 graphs, `compile` would silently run eagerly."""
    shapes, backend = buckets(800, 1333), Backend()
    step = LossesStep(Sum(), 2 * len(shapes))
    step.compile(backend=backend, mode=None, dynamic=False)
    counts = (0, 1, 7, 8, 9, 31, 32, 33, 100, 200, 256)
    rooms = {padded_count(count, 256, (COMPILED_ROOM,)) for count in counts}
    assert rooms == {32, 256} and padded_count(300, 256, (COMPILED_ROOM,)) == 256 and padded_count(9, 16, (32,)) == 16
    for height, width in shapes:
        for room in rooms:
            images = Images(torch.ones(1, 3, height, width, dtype=torch.uint8), torch.ones(1, 2))
            losses, _ = step(images, tiny.targets([], places=room))
            assert losses["sum"].item() == 1
    assert len(shapes) > 8 and backend.graphs == 2 * len(shapes)


def test_compiled_training_does_not_change_validation_padding(monkeypatch):
    shapes = []
    monkeypatch.setattr(evaluate, "evaluation_batches", lambda *_, shape, **options: shapes.append(shape(70, 100)))
    experiment = DetectionExperiment()
    for experiment.train.compile in (False, True):
        evaluate.evaluation_batches_of([], experiment, detector(), World(0, 1, torch.device("cpu")), None)
    assert shapes == [(96, 128)] * 2
    assert to_dict(experiment)["train"]["compile"] is True
