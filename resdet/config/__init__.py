"""Builds an experiment (resdet/config/experiment.py) from YAML files with `_base_` and `key=value` overrides.

    experiment = resdet.config.load("imagenet_r50.yaml", "data.root=datasets/ILSVRC2012", "optim.lr=0.2")

A wrong key, type or value raises a ConfigError that names the file or override that sets it.
"""

from typing import TYPE_CHECKING

from resdet._lazy import attach

if TYPE_CHECKING:
    from resdet.config.compare import differences as differences
    from resdet.config.compare import to_yaml as to_yaml
    from resdet.config.compose import from_dict as from_dict
    from resdet.config.compose import load as load
    from resdet.config.compose import with_choices as with_choices
    from resdet.config.compose import with_values as with_values
    from resdet.config.experiment import Experiment as Experiment
    from resdet.config.experiment import plain as plain
    from resdet.config.experiment import to_dict as to_dict
    from resdet.config.files import find as find
    from resdet.config.files import shipped as shipped
    from resdet.config.overrides import is_override as is_override
    from resdet.config.overrides import parse_override as parse_override
    from resdet.config.settings import get as get

__getattr__, __dir__ = attach(
    __name__,
    {
        "Experiment": "experiment",
        "differences": "compare",
        "find": "files",
        "from_dict": "compose",
        "get": "settings",
        "is_override": "overrides",
        "load": "compose",
        "parse_override": "overrides",
        "plain": "experiment",
        "shipped": "files",
        "to_dict": "experiment",
        "to_yaml": "compare",
        "with_choices": "compose",
        "with_values": "compose",
    },
)
