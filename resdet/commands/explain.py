"""Prints config keys with type, default and meaning: `resdet config --explain` and the page docs/config.md."""

import textwrap
from collections.abc import Sequence
from typing import Any

from resdet.config.reference import Key, Section, defaults_of, name_of, sections
from resdet.errors import ConfigError, hint
from resdet.files.atomic import write_json

PAGE = """# Config keys

This page lists all keys of configs with type, default and meaning. `resdet config --explain --markdown` writes it from
the dataclasses in `resdet/` and their comments; `resdet config --explain KEY` prints the part of one key or section.
[training.md](training.md#configs) describes how files, `_base_` and overrides are combined, and
`resdet config --config X` prints the resulting config with all of its values.

A heading without names is for all tasks; other headings name their tasks, or the `name` that selects their keys. For a
section that is null by default, `{}` sets its defaults. For a detector, keys with the value `auto` are chosen from the
data ([data.md](data.md#settings-chosen-from-the-data)).
"""
WIDTH = 100
MOST = 4  # maximum number of keys with the same name in an error


def explain(prefix: str = "", markdown: bool = False, json_path: str | None = None) -> None:
    """Prints a key, or the keys of a section, for all tasks that have it; without `prefix`, all keys."""
    chosen = below(prefix)
    print(page(chosen) if markdown else "\n\n".join(text_of(section) for section in chosen))
    write_json(json_path, [entry(section, key) for section in chosen for key in section.keys])


def below(prefix: str) -> list[Section]:
    """Returns the sections, reduced to keys that equal the prefix or are below it."""
    everything = sections()
    chosen = [
        Section(each.path, each.users, each.about, keys)
        for each in everything
        if (keys := [key for key in each.keys if f"{key.key}.".startswith(f"{prefix}." if prefix else "")])
    ]
    if not chosen:
        raise ConfigError(f"there is no key {prefix}: {remedy_of(prefix, everything)}", prefix)
    return chosen


def remedy_of(prefix: str, everything: list[Section]) -> str:
    """Returns the closest key, or all keys, of the section in the prefix; for an unknown section, keys with that name,
    or else the closest key."""
    known = [name for each in everything for name in (each.path, *(key.key for key in each.keys))]
    section, _, last = prefix.rpartition(".")
    keys = dict.fromkeys(name.removeprefix(f"{section}.") for name in known if name.rpartition(".")[0] == section)
    if not section and (same := sorted({name for name in known if name.endswith(f".{last}")}, key=depth)):
        return f"did you mean {' or '.join(same[:MOST])}?"
    if not section or not keys:
        return hint(prefix, known, "`resdet config --explain` lists all keys.")
    return hint(last, keys, f"the keys here are {', '.join(keys)}.")


def depth(key: str) -> tuple[int, str]:
    return key.count("."), key


def text_of(section: Section) -> str:
    lines = textwrap.wrap(f"{title(section)}: {section.about}", WIDTH)
    for key in section.keys:
        default = ", ".join(
            f"{value} ({', '.join(users)})" if users else value for value, users in defaults_of(key).items()
        )
        lines += [f"  {key.key}: {key.type}, default {default}".replace("`", "")]
        lines += textwrap.wrap(key.meaning, WIDTH, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)


def title(section: Section) -> str:
    return " of ".join(filter(None, (section.path or "top level", name_of(section))))


def page(chosen: Sequence[Section]) -> str:
    """Returns the Markdown page."""
    lines, top = [PAGE.rstrip()], None
    for section in chosen:
        first = section.path.partition(".")[0]
        if first != top:
            lines += ["", f"## {first or 'Top level'}"]
            top = first
        if section.path != first or section.users:
            named = name_of(section)
            lines += ["", "### " + ": ".join(filter(None, (section.path, named)))]
        lines += ["", section.about, "", "| key | type | default | meaning |", "| --- | --- | --- | --- |"]
        lines += [f"| {' | '.join(cells(key))} |" for key in section.keys]
    return "\n".join(lines)


def cells(key: Key) -> tuple[str, str, str, str]:
    defaults = [
        f"`{value}` ({', '.join(users)})" if users else f"`{value}`" for value, users in defaults_of(key).items()
    ]
    return f"`{key.key}`", key.type, ", ".join(defaults), key.meaning


def entry(section: Section, key: Key) -> dict[str, Any]:
    defaults = [{"value": value, "of": users} for value, users in defaults_of(key).items()]
    words = key.type.replace("`", "")
    return {"key": key.key, "of": section.users, "type": words, "defaults": defaults, "meaning": key.meaning}
