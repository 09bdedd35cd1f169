"""resdet beside torchvision and timm, timed on the CPU in one process: `resdet bench`.

A suite is a module with a generator `cases()`: forward, train, cifar, pipeline. Weights are random and pictures
generated, so that nothing is read or downloaded. The machine must be idle: threads of OpenMP wait for each other, and
another program on the same cores slows some sides tenfold and others not at all.
"""

from resdet._lazy import attach

__getattr__, __dir__ = attach(__name__, {"bench": "command"})
