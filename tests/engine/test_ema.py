"""Compares the moving average of the weights with torch's AveragedModel."""

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from resdet.engine.ema import ModelEMA


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def change(model: nn.Module) -> None:
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor += torch.randn(tensor.shape) if tensor.is_floating_point() else 1


def test_average_equals_torch():
    model = net()
    ours, peer = ModelEMA(model, 0.9), AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    for _ in range(4):
        change(model)
        ours.update(model)
        peer.update_parameters(model)
        for (name, a), b in zip(peer.state_dict().items(), ours.state_dict().values()):
            assert torch.equal(a, b) or "num_batches" in name  # resdet copies integer counts, torch averages them
    assert ours.state_dict().keys() == peer.state_dict().keys()


def test_loaded_state_continues_the_average():
    model = net()
    whole, resumed = ModelEMA(model, 0.9), ModelEMA(model, 0.9)
    change(model)
    whole.update(model)
    resumed.load_state(whole.state_dict())
    change(model)
    for average in (whole, resumed):
        average.update(model)
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values()):
        assert torch.equal(a, b)


def test_the_first_update_after_a_state_without_updates_copies_the_weights():
    model = net()
    resumed = ModelEMA(net(), 0.9)
    resumed.load_state(ModelEMA(net(), 0.9).state_dict())
    resumed.update(model)
    for a, b in zip(model.state_dict().values(), resumed.module.state_dict().values()):
        assert torch.equal(a, b)
