"""Maps classes in a folder of Parquet files to annotations with other category ids, other names or fewer classes."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from resdet.errors import number_of

NAMED = 5


def names_by_id(batches: Iterable[Any]) -> dict[int, str]:
    """Maps category ids of detected classes to names; batches have the column `category_ids` and, unless written by
    other programs, `names`."""
    named: dict[int, str] = {}
    for batch in batches:
        if "names" not in batch.schema.names:
            continue
        column, names = batch["category_ids"].flatten(), batch["names"].flatten()
        if len(names) == len(column):  # otherwise null
            ids, first = np.unique(column.to_numpy(zero_copy_only=False), return_index=True)
            named |= zip(ids.tolist(), names.take(first).to_pylist())
    return named


def paired(detected: Mapping[int, str], annotated: Mapping[int, str]) -> dict[int, int] | None:
    """Maps category ids of detections to ids in the annotations, without classes missing there; None: ids are equal.

    Pairs by name if a class has another id in the annotations or an id is missing there, else by id. Duplicate names,
    or names that are all different, do not pair.
    """
    ids = {name: id for id, name in annotated.items()}
    shared = {id: ids[name] for id, name in detected.items() if name in ids}
    if len(ids) < len(annotated) or len(set(detected.values())) < len(detected) or not shared:
        return None
    moved = any(id != own for id, own in shared.items())
    return shared if moved or not detected.keys() <= annotated.keys() else None


def notes_on(
    pairs: Mapping[int, int] | None, detected: Mapping[int, str], annotated: Mapping[int, str], folder: object
) -> list[str]:
    """Returns sentences about classes with other ids or names, and about skipped classes."""
    if pairs is None:
        others = [id for id in detected if id in annotated and annotated[id] != detected[id]]
        return [
            f"classes are matched by category id: {id} is {annotated[id]} in the annotations and {detected[id]} in "
            f"{folder}"
            for id in others[:1]
        ]
    notes = [
        f"classes are matched by name: {detected[id]} has category id {own} in the annotations and {id} in {folder}"
        for id, own in [(id, own) for id, own in pairs.items() if id != own][:1]
    ]
    absent = [name for id, name in detected.items() if id not in pairs]
    if absent:
        names = ", ".join(absent[:NAMED]) + (", …" if len(absent) > NAMED else "")
        verb = "is" if len(absent) == 1 else "are"
        number = number_of(len(absent), "class", "classes")
        notes.append(f"{number} of {folder} {verb} not in the annotations and not evaluated: {names}")
    return notes
