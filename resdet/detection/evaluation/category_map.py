"""The categories of a data set in those of a model, which may have other ids and another order."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from resdet.data.class_names import check_names, labels_by_name
from resdet.errors import ConfigError, number_of


class Categories(Protocol):
    """A detector, an ensemble, an exported file, or the annotations of a data set."""

    classes: list[str]
    category_ids: list[int]


@dataclass(frozen=True)
class CategoryMap:
    """Pairs the categories of a data set with those of a model: by name if the model has all names of the data, else
    by category id."""

    labels: list[int]  # label of the model of each category of the data
    ids: np.ndarray  # int64 [C], category id in the data of each label of the model, where `present`
    present: np.ndarray  # bool [C], False: the data lack the class of the model
    note: str | None  # states that ids, order or names differ

    @classmethod
    def of(cls, model: Categories, data: Categories) -> "CategoryMap":
        by_name = labels_by_name(model.classes, data.classes)
        note = check_ids(model, data) if by_name is None else note_on_ids(model, data)
        labels = [model.category_ids.index(id) for id in data.category_ids] if by_name is None else by_name
        ids, present = np.zeros(len(model.classes), np.int64), np.zeros(len(model.classes), bool)
        ids[labels], present[labels] = data.category_ids, True
        return cls(labels, ids, present, note)


def note_on_ids(model: Categories, data: Categories) -> str | None:
    """A note if the same class has another category id in the data than in the model."""
    known = dict(zip(model.classes, model.category_ids))
    others = [(name, id) for name, id in zip(data.classes, data.category_ids) if known[name] != id]
    if not others:
        return None
    name, id = others[0]
    return f"classes are matched by name: {name} has category id {id} in the data and {known[name]} in the model"


def check_ids(model: Categories, data: Categories) -> str | None:
    """Refuses data with category ids or names that do not fit the model's; returns a note on names that differ."""
    for name, id in zip(data.classes, data.category_ids):
        if id not in model.category_ids:
            number = number_of(len(model.classes), "class", "classes")
            raise ConfigError(
                f"The data has the class {name} with the category id {id}, and the {number} of the model have neither "
                "this id nor all names of the data: choose the data it was trained for."
            )
    return check_names(*(dict(zip(each.category_ids, each.classes)) for each in (model, data)))
