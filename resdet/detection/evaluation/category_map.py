"""Maps the categories of a data set to those of a model, which may differ in ids and order."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from resdet.data.class_names import check_names
from resdet.errors import ConfigError


class Categories(Protocol):
    """A detector, an ensemble, an exported file, or the annotations of a data set."""

    classes: list[str]
    category_ids: list[int]


class Annotated(Categories, Protocol):
    """The annotations of a data set."""

    def label_counts(self) -> np.ndarray: ...


@dataclass(frozen=True)
class CategoryMap:
    """Pairs the categories of a data set with those of a model: by name if the model knows the names of all classes
    with objects in the data, else by category id. The model may lack classes without objects, which metrics exclude.
    The data of a test server, without objects, may have more classes than the model."""

    labels: list[int]  # the model's label for each category of the data; 0 if missing
    ids: np.ndarray  # int64 [C], category id in the data for each label of the model, where `present`
    present: np.ndarray  # bool [C], whether the data has the model's class
    note: str | None  # says that ids, order or names differ

    @classmethod
    def of(cls, model: Categories, data: Annotated) -> "CategoryMap":
        by_name = covers(model.classes, data.classes, needed(data)) or (
            not data.label_counts().any() and covers(data.classes, model.classes, range(len(model.classes)))
        )
        note = note_on_order(model, data) if by_name else check_ids(model, data)
        known, own = (model.classes, data.classes) if by_name else (model.category_ids, data.category_ids)
        place = {value: label for label, value in enumerate(known)}
        pairs = [(place[value], id) for value, id in zip(own, data.category_ids) if value in place]
        ids, present = np.zeros(len(known), np.int64), np.zeros(len(known), bool)
        for label, id in pairs:
            ids[label], present[label] = id, True
        return cls([place.get(value, 0) for value in own], ids, present, note)


def needed(data: Annotated) -> list[int]:
    """Returns the data's labels with objects; all labels if there are no objects, as in a test server's data."""
    return np.flatnonzero(data.label_counts()).tolist() or list(range(len(data.classes)))


def covers(names: Sequence[str], others: Sequence[str], needed: Sequence[int]) -> bool:
    """Returns whether the needed `others` are among `names`, with no duplicates in either."""
    unique = len(set(names)) == len(names) and len(set(others)) == len(others)
    return unique and {others[label] for label in needed} <= set(names)


def note_on_order(model: Categories, data: Categories) -> str | None:
    """Returns a note if a class has different category ids in the data and in the model."""
    known = dict(zip(model.classes, model.category_ids))
    others = [(name, id) for name, id in zip(data.classes, data.category_ids) if known.get(name, id) != id]
    if not others:
        return None
    name, id = others[0]
    return f"classes are matched by name: {name} has category id {id} in the data and {known[name]} in the model"


def check_ids(model: Categories, data: Annotated) -> str | None:
    """Rejects data with category ids or names that do not fit the model's; returns a note on different names."""
    own = {data.category_ids[label]: data.classes[label] for label in needed(data)}
    unknown = [id for id in own if id not in model.category_ids]
    if unknown:
        id = unknown[0]
        name = next((name for name in own.values() if name not in model.classes), own[id])
        raise ConfigError(
            f"The model has no class {name} and no category id {id} ({own[id]}) of the data: choose the data it was "
            "trained for, or leave out the classes that it lacks with resdet data subset --classes."
        )
    return check_names(dict(zip(model.category_ids, model.classes)), own)
