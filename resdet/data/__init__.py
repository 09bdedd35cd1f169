"""Data sets: from files to batches of uint8 images and labels."""

from resdet._lazy import attach

__getattr__, __dir__ = attach(
    __name__,
    {"cifar": "cifar", "imagenet": "imagenet", "ImageFolder": "folder", "TarImages": "tars", "shapes": "shapes"},
)
