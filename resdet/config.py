"""From YAML files with `_base_` and from `key=value` overrides to an experiment (resdet/experiments.py).

    experiment = resdet.config.load("imagenet_r50.yaml", "data.root=datasets/ILSVRC2012", "optim.lr=0.2")

A wrong key, type or value is a ConfigError of one sentence that names the file or the override it stands in.
"""

import copy
import difflib
import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator

import yaml
from omegaconf import DictConfig, OmegaConf, TupleConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from resdet.backbones.config import family as backbone_family
from resdet.data.config import family as data_family
from resdet.errors import ConfigError
from resdet.experiments import TASKS, check, plain, to_dict

PACKAGE = Path(__file__).parent
CONFIG_FOLDERS = (Path("configs"), PACKAGE.parent / "configs", PACKAGE / "configs")  # here, the checkout, the install


# Sections whose `name` decides which keys they have. A bare string is short for the name alone.
VARIANTS: dict[str, Callable[[str], type]] = {"model.backbone": backbone_family, "data": data_family}


@dataclass
class Layer:
    """One source of settings, and what to call it in an error."""

    origin: str
    settings: dict


def load(config: str | Path, *overrides: str) -> Any:
    """The experiment of a YAML file, found by path or by name in configs/, with overrides as `section.key=value`."""
    path = find(config)
    layers = read_layers(path)
    layers.insert(0, Layer("the defaults", {"name": path.stem}))
    return compose(layers, [parse_override(text) for text in overrides])


def from_dict(settings: dict, origin: str = "this dict", overrides: tuple[str, ...] = ()) -> Any:
    """The experiment that `to_dict` wrote, as checkpoints carry it."""
    return compose([Layer(origin, copy.deepcopy(settings))], [parse_override(text) for text in overrides])


def to_yaml(experiment: Any) -> str:
    return yaml.safe_dump(to_dict(experiment), sort_keys=False, allow_unicode=True)


def differences(before: dict, after: dict, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """The keys in which two experiments, as `to_dict` gives them, differ, with both values."""
    found = {}
    for key in {**before, **after}:
        old, new = plain(before.get(key)), plain(after.get(key))
        if isinstance(old, dict) and isinstance(new, dict):
            found |= differences(old, new, f"{prefix}{key}.")
        elif old != new:
            found[f"{prefix}{key}"] = (old, new)
    return found


def find(config: str | Path) -> Path:
    """A config's file: the path itself, or a name in configs/, with or without its ending."""
    config = Path(config)
    if config.is_file():
        return config
    for folder in CONFIG_FOLDERS:
        for candidate in (folder / config, folder / f"{config}.yaml"):
            if candidate.is_file():
                return candidate
    near = difflib.get_close_matches(config.stem, shipped(), n=1)
    hint = f"did you mean {near[0]}.yaml?" if near else f"there are {', '.join(shipped())}."
    raise ConfigError(f"There is no config {str(config)!r}, neither as a file nor in configs/: {hint}")


def shipped() -> list[str]:
    """The names of the configs that can be found without a path."""
    return sorted({path.stem for folder in CONFIG_FOLDERS for path in folder.glob("*.yaml")})


class Loader(yaml.SafeLoader):
    """YAML whose only booleans are true and false, and where 1e-4 is a number."""


Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern) for tag, pattern in resolvers if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:float")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("(true|false)$"), list("tf"))
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"([-+]?(\d+\.\d*|\.\d+)([eE][-+]?\d+)?|[-+]?\d+[eE][-+]?\d+|[-+]?\.inf|\.nan)$"),
    list("-+0123456789."),
)


def read_yaml(path: Path) -> dict:
    try:
        settings = yaml.load(path.read_text(encoding="utf-8"), Loader) or {}
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: this is not text in UTF-8, as a YAML file is.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: this is not YAML: {getattr(error, 'problem', error)}.") from None
    if not isinstance(settings, dict):
        raise ConfigError(f"{path}: a config is a mapping of sections (model, data, optim, …), and this is not.")
    return settings


def read_layers(path: Path, seen: tuple[Path, ...] = ()) -> list[Layer]:
    """The file's settings after those of its `_base_` files, which are named relative to it or found in configs/."""
    if path.resolve() in seen:
        raise ConfigError(f"{path}: its _base_ leads back to itself.")
    settings = read_yaml(path)
    bases = settings.pop("_base_", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise ConfigError(f"{path}: _base_ is {bases!r}: give the name of a config, or a list of names.")
    layers = []
    for base in bases:
        sibling = path.parent / base
        layers += read_layers(sibling if sibling.is_file() else find(base), (*seen, path.resolve()))
    return [*layers, Layer(str(path), settings)]


def parse_override(text: str) -> tuple[str, Any]:
    """`optim.lr=0.2`, `schedule.milestones.0=30`, `data.augment.short=[256,480]`: a dotted key and a YAML value."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"{text!r} is not an override: write section.key=value, as in optim.lr=0.2.")
    try:
        return key.strip(), yaml.load(value, Loader)
    except yaml.YAMLError:
        raise ConfigError(f"Override {text!r}: its value is not YAML; quote it if it is text.") from None


def compose(layers: list[Layer], overrides: list[tuple[str, Any]]) -> Any:
    """The typed experiment from all layers, the later over the earlier, overrides last."""
    for layer in layers:
        for section in VARIANTS:
            expand_name(layer.settings, section)
    overrides = [(key, nested(key, value)) for key, value in overrides]
    for _, settings in overrides:
        for section in VARIANTS:
            expand_name(settings, section)
    experiment = empty_experiment(layers, [settings for _, settings in overrides])
    for layer in layers:
        with blaming(layer.origin, experiment):
            experiment.merge_with(layer.settings)
    for key, settings in overrides:
        value = get(settings, key)
        with blaming(f"override {key}={value}", experiment):
            update(experiment, key, value)
    with blaming(layers[-1].origin, experiment):
        return check(OmegaConf.to_object(experiment))


def empty_experiment(layers: list[Layer], overrides: list[dict]) -> DictConfig:
    """The schema that the layers and overrides ask for: the task's, with the config class of each section's name."""
    asked = [*(layer.settings for layer in layers), *overrides]
    task = next((settings["task"] for settings in reversed(asked) if "task" in settings), None)
    if task not in TASKS:
        named = f"task is {task!r}" if task else f"{layers[-1].origin} names no task"
        raise ConfigError(f"{named}: write `task:` and one of {', '.join(TASKS)}.")
    experiment = OmegaConf.structured(TASKS[task])
    for section, family in VARIANTS.items():
        names = [get(settings, f"{section}.name") for settings in asked]
        final = next((name for name in reversed(names) if name), None)
        if final is None:
            continue
        chosen = family(str(final))
        OmegaConf.update(experiment, section, OmegaConf.structured(chosen(name=final)), merge=False)
        forget_other_families(layers, section, family, chosen)
    return experiment


def forget_other_families(layers: list[Layer], section: str, family: Callable[[str], type], chosen: type) -> None:
    """The options of a section belong to its name: naming another family starts from that one's defaults."""
    name = None
    parent, _, last = section.rpartition(".")
    for position, layer in enumerate(layers):
        name = get(layer.settings, f"{section}.name") or name
        if name and family(str(name)) is not chosen:
            for earlier in layers[: position + 1]:
                holder = get(earlier.settings, parent) if parent else earlier.settings
                (holder or {}).pop(last, None)


def get(settings: Any, key: str) -> Any:
    for part in key.split("."):
        settings = settings.get(part) if isinstance(settings, dict) else None
    return settings


def nested(key: str, value: Any) -> dict:
    """An override as a file would write it: `model.backbone` and a value as {model: {backbone: value}}."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def expand_name(settings: dict, section: str) -> None:
    """`backbone: resnet50` is short for `backbone: {name: resnet50}`."""
    parent, _, last = section.rpartition(".")
    holder = get(settings, parent) if parent else settings
    if isinstance(holder, dict) and isinstance(holder.get(last), str):
        holder[last] = {"name": holder[last]}


def update(experiment: DictConfig, key: str, value: Any) -> None:
    """Sets one key; `milestones.0` and `milestones[0]` both mean the first entry of a list."""
    key = re.sub(r"\.(\d+)(?=\.|\[|$)", r"[\1]", key)
    whole, _, index = key.removesuffix("]").rpartition("[")
    entries = OmegaConf.select(experiment, whole) if key.endswith("]") else None
    if isinstance(entries, TupleConfig):  # whose entries cannot be set one by one
        changed = list(entries)
        changed[int(index)] = value
        key, value = whole, changed
    OmegaConf.update(experiment, key, value, force_add=False)


@contextmanager
def blaming(origin: str, experiment: DictConfig) -> Iterator[None]:
    """What OmegaConf objects to inside becomes one sentence that names the origin."""
    try:
        yield
    except ConfigError:
        raise
    except (ConfigKeyError, ConfigAttributeError) as error:
        raise ConfigError(f"{origin}: {unknown_key(error, experiment)}") from None
    except OmegaConfBaseException as error:
        key = f"{error.full_key}: " if getattr(error, "full_key", None) and error.full_key not in origin else ""
        raise ConfigError(f"{origin}: {key}{str(error).splitlines()[0].rstrip('.')}.") from None
    except (IndexError, TypeError, ValueError) as error:
        raise ConfigError(f"{origin}: {str(error).splitlines()[0].rstrip('.')}.") from None


def unknown_key(error: ConfigKeyError | ConfigAttributeError, experiment: DictConfig) -> str:
    """A sentence for a key that no section has, naming the nearest one that exists."""
    full = error.full_key or str(error.key)
    section = full.rpartition(".")[0]
    known = list(OmegaConf.select(experiment, section) if section else experiment)
    near = difflib.get_close_matches(str(error.key), known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"the keys here are {', '.join(map(str, known))}."
    return f"there is no key {full}: {hint}"
