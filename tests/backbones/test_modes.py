"""Tests `evaluating`, which sets nets to eval mode and restores their mode afterwards."""

import pytest
from torch import nn

from resdet.backbones.modes import evaluating


def modes(net: nn.Module) -> list[bool]:
    return [module.training for module in net.modules()]


@pytest.mark.parametrize("whole, part", [(True, True), (True, False), (False, True), (False, False)])
def test_all_modules_are_in_eval_mode_and_the_mode_of_the_net_is_restored(whole, part):
    """Checks that the mode of the net is restored after an exception, but not differing modes of its modules."""
    nets = [nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout())) for _ in range(2)]
    nets[0].train(whole)
    nets[0][1].train(part)
    with pytest.raises(KeyError), evaluating(nets):
        assert not any(modes(nets[0]) + modes(nets[1]))
        raise KeyError
    assert set(modes(nets[0])) == {whole} and all(modes(nets[1]))


def test_train_is_not_called_on_a_net_in_eval_mode():
    """Checks that `evaluating` skips the call, which takes as long as a prediction of a small net."""
    net = nn.Sequential(nn.Dropout()).eval()
    net.train = lambda mode: pytest.fail("its mode is set")
    with evaluating([net]):
        pass
