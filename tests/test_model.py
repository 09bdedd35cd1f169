"""Tests the base class of the models, which custom tasks derive from."""

import pytest
import torch
from torch import nn

from resdet.model import Model


class Custom(Model):
    def __init__(self, **attributes):
        super().__init__()
        self.layer = nn.Linear(2, 3)
        for name, value in attributes.items():
            setattr(self, name, value)


def test_the_device_is_that_of_the_weights():
    assert Custom().device == torch.device("cpu") and Custom().to("meta").device == torch.device("meta")
    assert Model().device == torch.device("cpu")


def test_an_assigned_device_is_refused_with_advice():
    with pytest.raises(AttributeError, match=r"^Custom\.device is the device of the weights, .*: use another name\.$"):
        Custom(device=torch.device("cpu"))
