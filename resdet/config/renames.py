"""Translates renamed keys and values, so that configs and checkpoints of earlier versions still load.

An old key is renamed only in sections that have the new key and lack the old one: `short` is still valid for
classifiers.
"""

from dataclasses import fields
from typing import Any

from resdet.config.schema import Schema

KEYS = {
    "batch": "batch_per_image",
    "canonical": "canonical_size",
    "fpn": "neck",
    "long": "max_size",
    "pca_colour": "pca_color",
    "positives": "positive_fraction",
    "short": "min_size",
    "short_sampling": "min_size_sampling",
}
VALUES = {"views": {"centre": "center"}, "testing": {"centre": "center"}, "classifier_views": {"centre": "center"}}


def current_settings(settings: Any, schema: Schema, path: tuple[str, ...] = ()) -> Any:
    """Returns the settings at `path` with current keys, which take precedence over old ones."""
    if not isinstance(settings, dict) or not all(isinstance(key, str) for key in settings):
        return settings
    section = schema.section(path)
    if section is None:
        return settings
    known = {field.name for field in fields(section)}
    current: dict[str, Any] = {}
    for key, value in settings.items():
        name = key if key in known or KEYS.get(key) not in known else KEYS[key]
        if name != key and name in settings:
            continue
        value = current_settings(value, schema, (*path, name))
        current[name] = VALUES.get(name, {}).get(value, value) if isinstance(value, str) else value
    return current
