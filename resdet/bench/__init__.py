"""resdet beside torchvision, timm and pycocotools, timed on the CPU in one process: `resdet bench`.

A suite is a module with a generator `cases()`: forward, train, cifar and pipeline for classifiers, detect,
detect_train, ops, evaluate and index for detectors. Weights are random, pictures and annotations generated, so that
nothing is read or downloaded. The machine must be idle: threads of OpenMP wait for each other, and another program on
the same cores slows some sides tenfold and others not at all.
"""

from resdet._lazy import attach

__getattr__, __dir__ = attach(__name__, {"bench": "command"})
