"""Named entries that a config chooses from, to which a user's module may add its own."""

import difflib
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Generic, TypeVar, cast

from resdet.errors import ConfigError

T = TypeVar("T")


class Registry(Generic[T]):
    """Entries by name. Those of this package may be given as "module:attribute", which is imported at first use."""

    def __init__(self, kind: str, key: str, entries: Mapping[str, T | str] | None = None):
        """`kind` and `key` are what an entry is and the config key that names it, for error messages."""
        self.kind, self.key = kind, key
        self.entries: dict[str, T | str] = dict(entries or {})

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that adds an entry; a ConfigError where the name is taken by another one."""

        def add(entry: T) -> T:
            known = self.entries.get(name)
            if known is not None and identity(known) != identity(entry):
                raise ConfigError(f"There is already a {self.kind} named {name!r}: register yours by another name.")
            self.entries[name] = entry
            return entry

        return add

    def __getitem__(self, name: str) -> T:
        self.check(name)
        entry = self.entries[name]
        if isinstance(entry, str):
            module, _, attribute = entry.partition(":")
            entry = self.entries[name] = cast(T, getattr(import_module(module), attribute))
        return entry

    def check(self, name: str) -> None:
        """Raises a ConfigError where there is no such entry, without importing it."""
        if name not in self.entries:
            raise ConfigError(f"{self.key}: there is no {self.kind} named {name!r}: {self.hint(name)}", self.key)

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def hint(self, name: str) -> str:
        """The nearest name, or all of them."""
        near = difflib.get_close_matches(name, self.entries, n=1)
        return f"did you mean {near[0]}?" if near else f"there are {', '.join(self.entries)}."


def identity(entry: object) -> str:
    """The same for an object and for the object of its name after its module is imported again."""
    if isinstance(entry, str):
        return entry
    named = entry if hasattr(entry, "__qualname__") else type(entry)
    return f"{named.__module__}:{named.__qualname__}"
