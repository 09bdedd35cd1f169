"""Which dataclasses read an experiment: those of its task, and of the sections whose name decides their keys."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, is_dataclass
from functools import cache
from operator import attrgetter
from typing import Any, get_args, get_type_hints

from resdet.backbones.config import family as backbone_family
from resdet.config.experiment import Experiment, plain
from resdet.data.config import formats
from resdet.necks.config import necks

# Sections whose `name` decides which keys they have. A bare string is short for the name alone.
VARIANTS: dict[str, Callable[[str], type]] = {
    "model.backbone": backbone_family,
    "model.neck": necks.__getitem__,
    "data": formats.__getitem__,
}


@dataclass
class Schema:
    """The dataclass of an experiment's task, and those of its sections that are chosen by name."""

    task: type[Experiment]
    chosen: dict[str, type]

    def section(self, path: tuple[str, ...]) -> type | None:
        """The dataclass of a section; None where the path leads to no section."""
        kind: type | None = self.task
        for position, key in enumerate(path, 1):
            kind = self.chosen.get(".".join(path[:position])) or section_type(kind, key)
        return kind

    def defaults(self) -> dict[str, Any]:
        """The settings that layers are merged into."""
        settings = asdict(self.task())
        for path, kind in self.chosen.items():
            if kind is not default_families(self.task)[path]:
                parent, last = holder(settings, path)
                parent[last] = asdict(kind())
        return plain(settings)


def default_families(task: type[Experiment]) -> dict[str, type]:
    """The dataclasses of a task's sections where no name chooses others."""
    defaults = asdict(task())
    return {path: type(attrgetter(path)(task())) for path in VARIANTS if get(defaults, path) is not None}


@cache
def section_type(kind: type | None, key: str) -> type | None:
    """The dataclass among the types of a field, which may be optional."""
    hint = get_type_hints(kind).get(key) if kind else None
    return next((part for part in (hint, *get_args(hint)) if is_dataclass(part)), None)


def get(settings: Any, path: str) -> Any:
    """The value at a dotted path; None where there is none."""
    for part in path.split("."):
        settings = settings.get(part) if isinstance(settings, dict) else None
    return settings


def holder(settings: Any, path: str) -> tuple[Any, str]:
    """What holds a section (a mapping, unless the settings are wrong), and the section's own key."""
    parent, _, last = path.rpartition(".")
    return (get(settings, parent) if parent else settings), last
