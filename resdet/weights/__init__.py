"""Loading and saving of weights: layouts are recognized by content, and mismatches are reported by name."""

from typing import TYPE_CHECKING

from resdet._lazy import attach

if TYPE_CHECKING:
    from resdet.weights.checkpoint_file import read as read
    from resdet.weights.layouts.recognition import recognize as recognize
    from resdet.weights.load_weights import load as load
    from resdet.weights.save_weights import save as save
    from resdet.weights.zoo import locate as locate

__getattr__, __dir__ = attach(
    __name__,
    {
        "load": "load_weights",
        "save": "save_weights",
        "read": "checkpoint_file",
        "recognize": "layouts.recognition",
        "locate": "zoo",
    },
)
