"""Builds an experiment (resdet/config/experiment.py) from YAML files with `_base_` and `key=value` overrides.

    experiment = resdet.config.load("imagenet_r50.yaml", "data.root=datasets/ILSVRC2012", "optim.lr=0.2")

A wrong key, type or value raises a ConfigError that names the file or override that sets it.
"""

from resdet._lazy import attach

__getattr__, __dir__ = attach(
    __name__,
    {
        "Experiment": "experiment",
        "differences": "compare",
        "find": "files",
        "from_dict": "loading",
        "get": "schema",
        "is_override": "overrides",
        "load": "loading",
        "parse_override": "overrides",
        "plain": "experiment",
        "shipped": "files",
        "to_dict": "experiment",
        "to_yaml": "compare",
    },
)
