"""Converts merged settings to dataclasses: pydantic validates the types, and its errors become one sentence.

The dataclasses are standard ones. Lists convert to tuples and mappings to dataclasses, as in pydantic's lax mode.
Scalars are strict (RULES), except that text accepts numbers: a folder may be called 2012.
"""

from dataclasses import fields
from functools import cache
from types import NoneType
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from resdet.config.experiment import Experiment
from resdet.config.schema import Schema
from resdet.config.settings import holder
from resdet.errors import ConfigError, hint, spelled

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

RULES: dict[str, dict[str, Any]] = {
    "int": {"strict": True, "ge": -(2**63), "le": 2**63 - 1},
    "float": {"strict": True, "allow_inf_nan": False},
    "bool": {"strict": True},
    "str": {"coerce_numbers_to_str": True},
    "dataclass-args": {"extra_behavior": "forbid"},
}
EXPECTED = {
    "int_type": "give a whole number",
    "float_type": "give a number, as in 0.1",
    "bool_type": "give true or false",
    "string_type": "give text",
    "string_unicode": "give text",
    "finite_number": "give a finite number",
    "greater_than_equal": "give a 64-bit number",
    "less_than_equal": "give a 64-bit number",
}


def validate(settings: dict[str, Any], schema: Schema) -> Experiment:
    """Builds the experiment from complete settings, which are modified; a ConfigError contains the key."""
    for path, kind in schema.chosen.items():
        parent, last = holder(settings, path)
        if isinstance(parent, dict):
            parent[last] = instance(kind, parent.get(last), tuple(path.split(".")), schema)
    return instance(schema.task, settings, (), schema)


def instance(kind: type, settings: Any, path: tuple[str, ...], schema: Schema) -> Any:
    """Builds the dataclass instance for the settings at `path`."""
    from pydantic import ValidationError

    try:
        return validator(kind).validate_python(settings)
    except ValidationError as error:
        errors = error.errors(include_url=False)
    inner, value = locate(errors[0]["loc"], settings)
    raise ConfigError(sentence((*path, *inner), value, errors, schema), ".".join((*path, *inner)))


@cache
def validator(kind: type) -> Any:
    from pydantic_core import SchemaValidator

    return SchemaValidator(core_schema(kind))


@cache
def core_schema(kind: type) -> dict[str, Any]:
    """Returns pydantic's core schema of a dataclass, with RULES applied to every part."""
    from pydantic import TypeAdapter

    return with_rules(TypeAdapter(kind).core_schema)


def with_rules(part: Any) -> Any:
    if isinstance(part, list):
        return [with_rules(entry) for entry in part]
    if not isinstance(part, dict):
        return part
    rules = RULES.get(part["type"], {}) if isinstance(part.get("type"), str) else {}
    return {key: with_rules(value) for key, value in part.items()} | rules


def locate(location: tuple[int | str, ...], settings: Any) -> tuple[tuple[str, ...], Any]:
    """Returns the path of an error, without the labels that pydantic inserts for union members, and the value there."""
    keys = []
    for part in location:
        if isinstance(settings, dict) and isinstance(part, str):
            settings = settings.get(part)
        elif isinstance(settings, list) and isinstance(part, int) and part < len(settings):
            settings = settings[part]
        else:
            break
        keys.append(str(part))
    return tuple(keys), settings


def sentence(path: tuple[str, ...], value: Any, errors: "list[ErrorDetails]", schema: Schema) -> str:
    """Returns the error message for a key: its value and the remedy, by the type of pydantic's first error."""
    error, kind = errors[0], errors[0]["type"]
    if kind == "unexpected_keyword_argument":
        return unknown_key(path, schema)
    if kind == "literal_error":
        lists = any(get_origin(member) is list for member in alternatives(path, schema))
        remedy = f"choose {error['ctx']['expected']}{' or a list of numbers' if lists else ''}"
    elif kind == "dataclass_type":
        remedy = f"give a mapping of its keys ({', '.join(keys_of(path, schema))})"
    elif kind == "too_long":
        remedy = f"give a list of {error['ctx']['max_length']} entries"
    elif kind == "missing":  # one error per missing entry of a tuple
        missing = [int(other["loc"][-1]) for other in errors if other["loc"][:-1] == error["loc"][:-1]]
        remedy = f"give a list of {max(missing) + 1} entries"
    elif kind in ("list_type", "tuple_type"):
        remedy = f"give a list, as in {'[1, 2]' if value is None else f'[{spelled(value)}]'}"
    else:
        remedy = EXPECTED.get(kind, error["msg"])
    null = ", or null" if NoneType in alternatives(path, schema) else ""
    return f"{'.'.join(path)} is {spelled(value)}: {remedy}{null}."


def unknown_key(path: tuple[str, ...], schema: Schema) -> str:
    """Returns the error message for an unknown key, with the closest known key, or that of another section."""
    from resdet.config.reference import overrides_named  # imported late, since only errors need all sections

    known = keys_of(path[:-1], schema)
    overrides = overrides_named(path[-1])
    elsewhere = f"give {overrides}." if overrides else f"the keys here are {', '.join(known)}."
    remedy = elsewhere if overrides and len(path) == 1 else hint(path[-1], known, elsewhere)
    return f"there is no key {'.'.join(path)}: {remedy}"


def keys_of(path: tuple[str, ...], schema: Schema) -> list[str]:
    section = schema.section(path)
    return [field.name for field in fields(section)] if section else []


def alternatives(path: tuple[str, ...], schema: Schema) -> tuple[Any, ...]:
    """Returns the members of a key's type if it is a union."""
    section = schema.section(path[:-1])
    return get_args(get_type_hints(section)[path[-1]]) if section else ()
