"""Collects the keys of all tasks with type, default and meaning from the dataclasses of the sections."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from resdet.backbones import config as backbones
from resdet.config.experiment import Experiment, experiments
from resdet.config.meanings import meaning_of
from resdet.config.schema import VARIANTS, section_type
from resdet.data.config import formats
from resdet.errors import spelled
from resdet.necks.config import necks

TYPES = {int: "integer", float: "number", bool: "`true` or `false`", str: "text", NoneType: "`null`", dict: "mapping"}
TIMM = "timm/NAME"
# Names in other libraries -> overrides of resdet.
KEYS = {
    "amp": "train.precision=VALUE",
    "batch_size": "train.batch=VALUE",
    "data": "data.root=VALUE",
    "data_path": "data.root=VALUE",
    "epochs": "train.unit=epochs train.length=VALUE",
    "freeze": "model.freeze_stages=VALUE",
    "imgsz": "model.input.min_size=VALUE",
    "iou": "eval.nms=VALUE",
    "learning_rate": "optim.lr=VALUE",
    "lr0": "optim.lr=VALUE",
    "max_iter": "train.unit=steps train.length=VALUE",
    "optimizer": "optim.name=VALUE",
}
LISTED = 8  # maximum number of names in a title
HIDDEN = {"auto"}  # internal; the keys that it lists have the value `auto` in a config file


@dataclass(frozen=True)
class Use:
    """The dataclass of a section in a task; `name` is the value of `name` that selects it, or empty."""

    kind: type
    task: str
    name: str
    values: Any  # an instance with the defaults of this section and task

    @property
    def user(self) -> str:
        """The selecting name, or else the task."""
        return self.name or self.task


@dataclass
class Key:
    """A key with its types and defaults for each user: a task, or a name that selects its section."""

    key: str
    meaning: str
    hints: dict[Any, None] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)  # by user
    auto: list[str] = field(default_factory=list)  # tasks in which it may be `auto`

    @property
    def type(self) -> str:
        words = [word for hint in self.hints for word in type_words(hint)]
        return listed([*dict.fromkeys(words), *(["`auto`"] if self.auto else [])])


@dataclass
class Section:
    """Keys at a path that share the same users."""

    path: str
    users: tuple[str, ...]  # empty: all
    about: str
    keys: list[Key]


def sections() -> list[Section]:
    """Returns all sections in the order of a config."""
    return [section for path, uses in places().items() for section in sections_at(path, uses)]


def overrides_named(name: str) -> str:
    """Returns the overrides that correspond to a name of another library, or the keys that end in this name, those of
    training first; empty if there are none."""
    keys = {
        f"{section}.{name}" for section in ("train", "optim", "schedule", "data", "data.augment", "model.input", "eval")
    }
    known = keys.intersection(key.key for section in sections() for key in section.keys)
    ordered = sorted(known, key=lambda key: (not key.startswith("train."), key))
    return KEYS.get(name) or " or ".join(f"{key}=VALUE" for key in ordered)


def places() -> dict[str, list[Use]]:
    """Returns {path of a section: its dataclasses in all tasks}."""
    uses_at: dict[str, list[Use]] = {}
    for task in experiments:
        collect(Use(experiments[task], task, "", experiments[task]()), "", uses_at)
    order = list(dict.fromkeys(path.partition(".")[0] for path in uses_at))
    return {path: uses_at[path] for path in sorted(uses_at, key=lambda path: order.index(path.partition(".")[0]))}


def collect(use: Use, path: str, uses_at: dict[str, list[Use]]) -> None:
    """Adds a section and its subsections."""
    uses_at.setdefault(path, []).append(use)
    for each in fields(use.kind):
        below = f"{path}.{each.name}" if path else each.name
        for kind, name, values in variants(use, below, each.name):
            collect(Use(kind, use.task, name or use.name, values), below, uses_at)


def variants(use: Use, path: str, key: str) -> Iterator[tuple[type, str, Any]]:
    """Yields dataclass, name and defaults of each variant of a section; nothing for fields that are not sections."""
    default = section_type(use.kind, key)
    if path in VARIANTS and default is not None:
        for name, kind in named(path, experiments[use.task]).items():
            yield kind, name, kind()
    elif default is not None:
        values = getattr(use.values, key)
        yield default, "", default() if values is None else values


def named(path: str, task: type[Experiment]) -> Mapping[str, type]:
    """Returns {name: dataclass} of the variants of a section in VARIANTS, for a task."""
    if path == "data":
        return {name: formats[name] for name in formats if issubclass(formats[name], task.data_kinds)}
    if path == "model.neck":
        return {name: necks[name] for name in necks}
    return {**{name: backbones.family(name) for name in backbones.names()}, TIMM: backbones.TimmConfig}


def sections_at(path: str, uses: Sequence[Use]) -> Iterator[Section]:
    """Yields the sections at a path, one for each set of users with common keys."""
    everyone = users_of(uses)
    keys: dict[tuple[type, str, str], Key] = {}
    origins: dict[tuple[type, str, str], list[Use]] = {}
    for use in uses:
        for each in fields(use.kind):
            if each.name in HIDDEN or is_section(use.kind, each.name):
                continue
            identity = (first_owner(use.kind, each.name), each.name, meaning_of(use.kind, each.name))
            origins.setdefault(identity, []).append(use)
            add(keys.setdefault(identity, Key(joined(path, each.name), identity[2])), path, each, use)
    groups: dict[tuple[str, ...], list[tuple[type, str, str]]] = {}
    for identity, using in origins.items():
        groups.setdefault(users_of(using), []).append(identity)
    for users, members in groups.items():
        about = about_of([use for identity in members for use in origins[identity]], [owner for owner, *_ in members])
        shown = () if users == everyone else users
        yield Section(path, shown, about, [keys[identity] for identity in members])


def add(key: Key, path: str, each: Field[Any], use: Use) -> None:
    """Adds the type and default of one user to a key."""
    key.hints[hints_of(use.kind)[each.name]] = None
    if key.key == "task":
        key.defaults[""] = MISSING
    elif path in VARIANTS and each.name == "name":
        key.defaults[use.task] = default_name(path, use)
    else:
        key.defaults[use.user] = getattr(use.values, each.name)
    if key.key in experiments[use.task].auto_keys and use.task not in key.auto:
        key.auto.append(use.task)


def default_name(path: str, use: Use) -> str:
    value: Any = experiments[use.task]()
    for part in path.split("."):
        value = getattr(value, part)
    return value.name


def is_section(kind: type, key: str) -> bool:
    """Whether the field is always a section, never null."""
    return section_type(kind, key) is not None and not takes_null(kind, key)


def takes_null(kind: type, key: str) -> bool:
    return NoneType in get_args(hints_of(kind)[key])


@cache
def hints_of(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def first_owner(kind: type, key: str) -> type:
    """Returns the most general class that has the field."""
    return next(base for base in reversed(kind.__mro__) if key in base.__dict__.get("__annotations__", ()))


def about_of(uses: Sequence[Use], owners: Sequence[type]) -> str:
    """Returns the first docstring paragraph of the common class, or else of the most derived class that owns a key."""
    kinds = {use.kind for use in uses}
    kind = kinds.pop() if len(kinds) == 1 else max(owners, key=lambda owner: len(owner.__mro__))
    return " ".join((kind.__doc__ or "").split("\n\n")[0].split())


def users_of(uses: Sequence[Use]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(use.user for use in uses))


def joined(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def type_words(hint: Any) -> Iterator[str]:
    """Yields the alternatives of a type in words."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        for part in arguments:
            yield from type_words(part)
    elif origin is Literal:
        yield from (f"`{value}`" for value in arguments)
    elif origin is list:
        yield f"list of {plural(arguments[0])}" if arguments[0] is not Any else "list"
    elif origin is tuple:
        yield f"list of {len(arguments)} {plural(arguments[0])}"
    elif is_dataclass(hint):
        yield "section"
    else:
        yield TYPES[origin or hint]


def plural(hint: Any) -> str:
    (word,) = type_words(hint)
    return word if word == "text" else word.replace("list", "lists", 1) if "list" in word else f"{word}s"


def defaults_of(key: Key) -> dict[str, tuple[str, ...]]:
    """Returns {default in YAML: its users}; without users if all have the same default."""
    users: dict[str, list[str]] = {}
    for user, value in key.defaults.items():
        users.setdefault(yaml_text(value), []).append(user)
    return {text: tuple(having) if len(users) > 1 else () for text, having in users.items()}


def yaml_text(value: Any) -> str:
    """Formats a default on one line; a long fraction is rounded."""
    if value is MISSING:
        return "required"
    if isinstance(value, float) and len(repr(value)) > 8:
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(yaml_text, value))}]"
    return spelled(value)


def name_of(section: Section) -> str:
    """Returns the tasks or selecting names of a section, separated by commas; empty if all tasks have it."""
    root = next((path for path in VARIANTS if f"{section.path}.".startswith(f"{path}.")), None)
    if root is None:
        return ", ".join(section.users)
    tasks = [task for task in experiments if set(section.users) == set(named(root, experiments[task]))]
    names = tasks or section.users
    return ", ".join(names) if len(names) <= LISTED else f"{names[0]} … {names[-1]}"


def listed(words: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))
