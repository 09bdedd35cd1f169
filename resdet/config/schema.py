"""The dataclasses of an experiment: those of its task, and those selected by the names of its sections."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from functools import cache
from operator import attrgetter
from typing import Any, get_args, get_type_hints

from resdet.backbones.config import family as backbone_family
from resdet.config.experiment import Experiment, plain
from resdet.config.settings import get, holder
from resdet.data.config import formats
from resdet.necks.config import necks

# Sections with a `name` that selects their dataclass. A bare string stands for the name.
VARIANTS: dict[str, Callable[[str], type]] = {
    "model.backbone": backbone_family,
    "model.neck": necks.__getitem__,
    "data": formats.__getitem__,
}

DEFAULT_FAMILIES: dict[type, Mapping[str, type]] = {}  # of the tasks used so far


@dataclass
class Schema:
    """The dataclass of a task, and the dataclasses of the sections in VARIANTS."""

    task: type[Experiment]
    chosen: dict[str, type]

    def section(self, path: tuple[str, ...]) -> type | None:
        """Returns the dataclass of a section; None if the path is not a section."""
        kind: type | None = self.task
        for position, key in enumerate(path, 1):
            kind = self.chosen.get(".".join(path[:position])) or section_type(kind, key)
        return kind

    def defaults(self) -> dict[str, Any]:
        """Returns the default settings, into which layers are merged."""
        settings = asdict(self.task())
        for path, kind in self.chosen.items():
            if kind is not default_families(self.task)[path]:
                parent, last = holder(settings, path)
                parent[last] = asdict(kind())
        return plain(settings)


def default_families(task: type[Experiment]) -> Mapping[str, type]:
    """Returns the default dataclasses of the sections in VARIANTS that the task has."""
    if task not in DEFAULT_FAMILIES:
        experiment = task()
        defaults = asdict(experiment)
        present = [path for path in VARIANTS if get(defaults, path) is not None]
        DEFAULT_FAMILIES[task] = {path: type(attrgetter(path)(experiment)) for path in present}
    return DEFAULT_FAMILIES[task]


@cache
def section_type(kind: type | None, key: str) -> type | None:
    """Returns the dataclass of a field, including optional fields; None for other fields."""
    hint = get_type_hints(kind).get(key) if kind else None
    return next((part for part in (hint, *get_args(hint)) if isinstance(part, type) and is_dataclass(part)), None)
