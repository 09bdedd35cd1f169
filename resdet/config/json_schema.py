"""The JSON schema of config files, by which editors complete and check them."""

from typing import Any

from resdet.backbones import config as backbones
from resdet.backbones.config import BackboneConfig
from resdet.config.experiment import experiments
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
    """JSON Schema 2020-12: an experiment of any task, or a part of one over its `_base_` files."""
    tasks = [experiments[name] for name in experiments]
    families = {BackboneConfig: backbone_names(), NeckConfig: names_in(necks), DataConfig: names_in(formats)}
    definitions = definitions_of([*tasks, *(kind for names in families.values() for kind in names)])
    for base, names in families.items():
        for kind, name in names.items():
            definitions[kind.__name__]["properties"]["name"] = name
        references = [{"$ref": REFERENCE.format(model=kind.__name__)} for kind in names]
        definitions[base.__name__] = {"anyOf": [*names.values(), *references]}  # the name alone, or a mapping
    for definition in definitions.values():
        if "properties" in definition:
            definition["additionalProperties"] = False
    for task in tasks:
        files = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
        definitions[task.__name__]["properties"]["_base_"] = files
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A config of resdet",
        "anyOf": [{"$ref": REFERENCE.format(model=task.__name__)} for task in tasks],
        "$defs": definitions,
    }


def definitions_of(kinds: list[type]) -> dict[str, Any]:
    """The schema of each dataclass, and of those inside it, by name."""
    from pydantic.json_schema import GenerateJsonSchema

    inputs = [(kind, "validation", core_schema(kind)) for kind in kinds]
    return GenerateJsonSchema(ref_template=REFERENCE).generate_definitions(inputs)[1]


def names_in(registry: Registry[Any]) -> dict[type, dict[str, Any]]:
    """The names of each registered dataclass."""
    names: dict[type, list[str]] = {}
    for name in registry:
        names.setdefault(registry[name], []).append(name)
    return {kind: {"enum": known} for kind, known in names.items()}


def backbone_names() -> dict[type, dict[str, Any]]:
    """The names of each family of nets; two families are open."""
    closed: dict[type, list[str]] = {}
    for name in backbones.names():
        closed.setdefault(backbones.family(name), []).append(name)
    names: dict[type, dict[str, Any]] = {kind: {"enum": known} for kind, known in closed.items()}
    for kind, pattern in ANY_BACKBONE.items():
        any_name = {"type": "string", "pattern": f"^{pattern}$"}
        names[kind] = {"anyOf": [names[kind], any_name]} if kind in names else any_name
    return names
