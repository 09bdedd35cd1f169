"""Registries of named entries for configs; user modules can add entries."""

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Generic, TypeVar, cast

from resdet.errors import ConfigError, hint

T = TypeVar("T")


class Registry(Generic[T]):
    """Maps names to entries. An entry given as "module:attribute" is imported at first use."""

    def __init__(self, kind: str, key: str, entries: Mapping[str, T | str] | None = None):
        """For error messages: `kind` is the noun for an entry, `key` the config key that selects one."""
        self.kind, self.key = kind, key
        self.entries: dict[str, T | str] = dict(entries or {})

    def register(self, name: str) -> Callable[[T], T]:
        """Returns a decorator that adds an entry; it raises a ConfigError if another entry has the name."""

        def add(entry: T) -> T:
            known = self.entries.get(name)
            if known is not None and identity(known) != identity(entry):
                raise ConfigError(f"There is already a {self.kind} named {name!r}: register yours under another name.")
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
        """Raises a ConfigError for an unknown name; does not import the entry."""
        if name not in self.entries:
            raise ConfigError(f"{self.key}: there is no {self.kind} named {name!r}: {self.hint(name)}", self.key)

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def hint(self, name: str) -> str:
        """Returns a suggestion for an unknown name: the closest name, or all names."""
        names = ", ".join(self.entries)
        return hint(name, self.entries, f"choose from {names}, or name the module that registers yours (--import).")


def identity(entry: object) -> str:
    """Returns module:qualname of an entry, which stays the same when its module is reloaded."""
    if isinstance(entry, str):
        return entry
    named = entry if hasattr(entry, "__qualname__") else type(entry)
    return f"{named.__module__}:{named.__qualname__}"
