"""Tests `evaluating`, which sets nets to eval mode and restores the modes of their modules afterwards."""

from threading import Barrier, Thread

import pytest
from torch import nn

from resdet.backbones.modes import contexts, evaluating


def modes(net: nn.Module) -> list[bool]:
    return [module.training for module in net.modules()]


@pytest.mark.parametrize("whole, part", [(True, True), (True, False), (False, True), (False, False)])
def test_all_modules_are_in_eval_mode_and_their_modes_are_restored(whole, part):
    """Checks that the mode of each module is restored, also after an exception."""
    nets = [nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout())) for _ in range(2)]
    nets[0].train(whole)
    nets[0][1].train(part)
    before = modes(nets[0])
    with pytest.raises(KeyError), evaluating(nets):
        assert not any(modes(nets[0]) + modes(nets[1]))
        raise KeyError
    assert modes(nets[0]) == before and all(modes(nets[1]))


def test_the_last_of_several_threads_restores_the_mode():
    net, together, apart = nn.Sequential(nn.Dropout()), Barrier(2), Barrier(2)
    seen = []

    def first():
        with evaluating([net]):
            together.wait()
        apart.wait()

    thread = Thread(target=first)
    thread.start()
    with evaluating([net]), evaluating([net]):
        together.wait()
        apart.wait()
        seen += modes(net)
    thread.join()
    assert not any(seen) and all(modes(net)) and net not in contexts
