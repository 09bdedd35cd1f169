"""From YAML files with `_base_` and from `key=value` overrides to an experiment (resdet/config/experiment.py).

    experiment = resdet.config.load("imagenet_r50.yaml", "data.root=datasets/ILSVRC2012", "optim.lr=0.2")

A wrong key, type or value is a ConfigError of one sentence that names the file or the override that sets it.
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
