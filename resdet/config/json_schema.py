"""JSON schema of config files, for completion and validation in editors."""

import inspect
from typing import Any

from resdet.backbones import config as backbones
from resdet.backbones.config import BackboneConfig
from resdet.config.experiment import AUTO, Experiment, experiments
from resdet.config.meanings import meaning_of
from resdet.config.reference import places
from resdet.config.schema import Schema, default_families
from resdet.config.validation import core_schema
from resdet.data.config import DataConfig, formats
from resdet.necks.config import NeckConfig, necks
from resdet.registry import Registry

REFERENCE = "#/$defs/{model}"
ANY_BACKBONE = {
    backbones.CifarNetConfig: backbones.CIFAR_NAME.pattern,
    backbones.TimmConfig: "timm/.+",
}


def json_schema() -> dict[str, Any]:
    """Returns the JSON Schema 2020-12 of an experiment of any task; all keys are optional: `_base_` may set them."""
    tasks = [experiments[name] for name in experiments]
    families = {BackboneConfig: backbone_names(), NeckConfig: names_in(necks), DataConfig: names_in(formats)}
    kinds = [*tasks, *(kind for names in families.values() for kind in names)]
    definitions = definitions_of(kinds)
    for base, names in families.items():
        for kind, name in names.items():
            definitions[kind.__name__]["properties"]["name"] = name
        references = [{"$ref": REFERENCE.format(model=kind.__name__)} for kind in names]
        definitions[base.__name__] = {"anyOf": [*names.values(), *references]}  # a bare name, or a mapping
    for definition in definitions.values():
        if "properties" in definition:
            definition["additionalProperties"] = False
    for task in tasks:
        files = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
        properties = definitions[task.__name__]["properties"]
        properties["_base_"] = files
        del properties["auto"]  # written as the value of each key
        for key in task.auto_keys:
            allow_auto(definitions, kinds, task, key)
    describe(definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A config of resdet",
        "anyOf": [{"$ref": REFERENCE.format(model=task.__name__)} for task in tasks],
        "$defs": definitions,
    }


def allow_auto(definitions: dict[str, Any], kinds: list[type], task: type[Experiment], key: str) -> None:
    """Adds the value `auto` to a key of a task, in every dataclass that inherits the field."""
    *path, last = key.split(".")
    section = Schema(task, dict(default_families(task))).section(tuple(path))
    assert section is not None
    owner = next(kind for kind in section.__mro__ if last in inspect.get_annotations(kind))
    for kind in {section, owner, *(kind for kind in kinds if issubclass(kind, owner))}:
        properties = definitions.get(kind.__name__, {}).get("properties", {})
        if last in properties and {"const": AUTO} not in properties[last].get("anyOf", ()):
            properties[last] = {"anyOf": [properties[last], {"const": AUTO}]}


def describe(definitions: dict[str, Any]) -> None:
    """Adds the meaning of each key as its description, which editors show."""
    for kind in {use.kind for uses in places().values() for use in uses}:
        for key, value in definitions[kind.__name__]["properties"].items():
            if meaning := meaning_of(kind, key):
                value["description"] = meaning


def definitions_of(kinds: list[type]) -> dict[str, Any]:
    """Returns {class name: schema} of the dataclasses and of those nested in them."""
    from pydantic.json_schema import GenerateJsonSchema

    generator = GenerateJsonSchema(ref_template=REFERENCE)
    schemas = generator.generate_definitions([(kind, "validation", core_schema(kind)) for kind in kinds])[1]
    return {str(name): schema for name, schema in schemas.items()}


def names_in(registry: Registry[Any]) -> dict[type, dict[str, Any]]:
    """Returns the names of each registered dataclass."""
    names: dict[type, list[str]] = {}
    for name in registry:
        names.setdefault(registry[name], []).append(name)
    return {kind: {"enum": known} for kind, known in names.items()}


def backbone_names() -> dict[type, dict[str, Any]]:
    """Returns the schema of the names of each backbone family; CIFAR and timm nets are given by a pattern."""
    closed: dict[type, list[str]] = {}
    for name in backbones.names():
        closed.setdefault(backbones.family(name), []).append(name)
    names: dict[type, dict[str, Any]] = {kind: {"enum": known} for kind, known in closed.items()}
    for kind, pattern in ANY_BACKBONE.items():
        any_name = {"type": "string", "pattern": f"^{pattern}$"}
        names[kind] = {"anyOf": [names[kind], any_name]} if kind in names else any_name
    return names
