"""Last layers for other classes: where two data sets share categories, their rows are taken over, one by one.

torchvision's COCO detectors have a row for each id from 1 to 90, detectron2's and most configs one for each of the 80
categories; the ids and names say which rows belong together.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from resdet.weights.layouts.recognition import Categories


def rows(theirs: Categories, ours: Categories) -> list[int | None] | None:
    """For each of our classes the number of theirs, or None; None in all where the data sets are not of one kind.

    They are, if one's categories are all among the other's, by id and name; ids that stand for nothing do not count.
    """
    given, wanted = real(theirs), real(ours)
    if not given or not wanted or not (wanted.keys() <= given.keys() or given.keys() <= wanted.keys()):
        return None
    return [given.get(pair) for pair in ours.pairs()]


def real(categories: Categories) -> dict[tuple[int, str], int]:
    """(id, name) -> row."""
    return {pair: row for row, pair in enumerate(categories.pairs()) if pair[1] != "N/A"}


# Of each class, in the last layers; scores end with the background's.
ROWS = {"scores": 1, "mask_scores": 1, "boxes": 4, "masks": 1}


@torch.no_grad()
def picked(state: Mapping[str, Tensor], model: nn.Module, chosen: list[int | None], count: int) -> dict[str, Tensor]:
    """The state, of `count` classes, with the rows of the model's; classes that the file lacks keep the model's own."""
    found, present = dict(state), model.state_dict()
    for layer in model.class_layers():
        kind = layer.rpartition(".")[2]
        each, background = ROWS[kind], int(kind.endswith("scores"))
        for name in (f"{layer}.weight", f"{layer}.bias"):
            theirs, ours = state.get(name), present.get(name)
            of_classes = [(each * n + background,) for n in (count, len(chosen))]
            if theirs is not None and ours is not None and [theirs.shape[:1], ours.shape[:1]] == of_classes:
                found[name] = pick(theirs, ours, chosen, each, background)
    return found


def pick(theirs: Tensor, ours: Tensor, chosen: list[int | None], each: int, background: int) -> Tensor:
    """Ours with theirs at `each` rows of every class that they have, and at the background's."""
    if theirs.shape[1:] != ours.shape[1:]:
        return theirs
    result = ours.clone()
    for row, source in enumerate(chosen):
        if source is not None:
            result[row * each : (row + 1) * each] = theirs[source * each : (source + 1) * each]
    if background:
        result[-1] = theirs[-1]
    return result
