"""Compares the class names of a model with those of data to evaluate it on."""

from collections.abc import Mapping, Sequence

from resdet.errors import ConfigError, number_of


def check_classes(name: str, model: Sequence[str], data: Sequence[str]) -> str | None:
    """Refuses data with other classes than the model, which the error calls `name`; returns a note on names that
    differ."""
    if len(model) != len(data):
        number = number_of(len(model), "class", "classes")
        raise ConfigError(f"{name} has {number} but the data has {len(data)}: give the data that it was trained for.")
    return check_names(dict(enumerate(model)), dict(enumerate(data)))


def check_names(model: Mapping[int, str], data: Mapping[int, str]) -> str | None:
    """Classes are matched by number: refuses data that have a class of the model under another number.

    Returns a note if names differ otherwise, as those of other libraries may; `model` has all numbers of `data`.
    """
    numbers = {name: number for number, name in model.items()}
    others = {number: name for number, name in data.items() if model[number] != name}
    for number, name in others.items():
        if name in numbers:
            raise ConfigError(
                f"Class {number} is {name} in the data and {model[number]} in the model, in which {name} is class "
                f"{numbers[name]}: give the classes of the data the numbers of the model."
            )
    if not others:
        return None
    number, name = next(iter(others.items()))
    return (
        f"{len(others)} of {len(data)} classes have other names in the data than in the model, such as {name} and "
        f"{model[number]}; they are matched by number"
    )
