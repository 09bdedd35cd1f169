"""Class names: matching a model's with those of a data set, and names given by users."""

from collections.abc import Mapping, Sequence

from resdet.errors import ConfigError, hint, number_of


def match_classes(name: str, model: Sequence[str], data: Sequence[str]) -> tuple[list[int], str | None]:
    """Returns the model's label of each data class: by name if the model has all names of the data, else by number.

    Also returns a note on names that differ, or on classes without data.
    """
    labels = labels_by_name(model, data)
    if labels is None:
        return [*range(len(data))], compare_classes(name, model, data)
    missing = len(model) - len(data)
    number = number_of(missing, "class of the model is", "classes of the model are")
    return labels, f"{number} not in the data" if missing else None


def labels_by_name(model: Sequence[str], data: Sequence[str]) -> list[int] | None:
    """Returns the model's label of each data class; None if the model lacks a name, or names are repeated."""
    labels = {name: label for label, name in enumerate(model)}
    if len(labels) < len(model) or len({*data}) < len(data) or not labels.keys() >= {*data}:
        return None
    return [labels[name] for name in data]


def compare_classes(name: str, model: Sequence[str], data: Sequence[str]) -> str | None:
    """Refuses data with other classes than the model, called `name` in errors; returns a note on differing names."""
    if len(model) != len(data):
        number = number_of(len(model), "class", "classes")
        raise ConfigError(f"{name} has {number} but the data has {len(data)}: give the data that it was trained for.")
    return check_names(dict(enumerate(model)), dict(enumerate(data)))


def check_names(model: Mapping[int, str], data: Mapping[int, str]) -> str | None:
    """Matches classes by number: refuses data with another number for a class of the model.

    Returns a note if names differ otherwise, as in other libraries; `model` contains all numbers of `data`.
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


def known_class(name: str, known: Sequence[str]) -> str:
    """Returns the end of a message on an unknown class: the known ones, spelled as in `--classes`."""
    spellings = [f'"{each}"' if "," in each else each for each in known]
    return hint(name, spellings, f"choose from {', '.join(spellings)}.")
