"""Preloads what forked processes share: the modules that a run imports and the config schema."""

from importlib import import_module

from resdet import config

for module in (
    *("torch._dynamo", "torch.utils.tensorboard", "resdet.commands.train", "resdet.commands.evaluate"),
    *("resdet.classification.task", "resdet.classification.training", "resdet.detection.training"),
    *("resdet.detection.evaluation.coco", "running"),
):
    import_module(module)
config.load("shapes_resnet20.yaml")
