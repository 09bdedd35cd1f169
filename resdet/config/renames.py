"""Keys and values of earlier versions: configs and checkpoints that have them are still read.

An old key is taken for the new one where the section has the new one alone: `short` stays what it is for a classifier.
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
    """The settings at `path` under the present keys; where both keys are given, the present one counts."""
    if not isinstance(settings, dict) or not all(isinstance(key, str) for key in settings):
        return settings
    section = schema.section(path)
    if section is None:
        return settings
    known = {field.name for field in fields(section)}
    current: dict[str, Any] = {}
    for key, value in settings.items():
        name = KEYS.get(key, key) if key not in known and KEYS.get(key) in known else key
        if name != key and name in settings:
            continue
        value = current_settings(value, schema, (*path, name))
        current[name] = VALUES.get(name, {}).get(value, value) if isinstance(value, str) else value
    return current
