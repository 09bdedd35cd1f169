"""Benchmarks of resdet against torchvision, timm and pycocotools in one process: `resdet bench`.

A suite is a module with a generator `cases()`: forward, train, cifar and pipeline for classifiers; detect,
detect_train, end_to_end, ops, evaluate and index for detectors. Weights are random, images and annotations generated,
so nothing is downloaded. The suite gpu runs its stages in separate processes; small_data, which trains, is in
resdet/commands/small_data.py. The machine must be idle: OpenMP threads wait for each other, so that another program on
the same cores slows some libraries tenfold and others not at all.
"""

from typing import TYPE_CHECKING

from resdet._lazy import attach

if TYPE_CHECKING:
    from resdet.bench.command import bench as bench

__getattr__, __dir__ = attach(__name__, {"bench": "command"})
