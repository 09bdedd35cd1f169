"""Unifies the categories of several parts of a data set, or of several data sets, by class name."""

from collections.abc import Sequence
from typing import Any

from resdet.errors import DataError

Content = dict[str, Any]  # in COCO's format, valid


def share_classes(contents: Sequence[Content], ordered: bool = True) -> list[Content]:
    """Returns the contents with the same categories: those of the first, then others by name with the next ids.

    If not `ordered`, the files define no order of classes, which are sorted by name (numbers by value), with ids 1 to
    C.
    """
    first = contents[0]["categories"]
    if ordered and all(content["categories"] == first for content in contents):
        return list(contents)
    categories: dict[str, dict[str, Any]] = {}
    for content in contents:
        for category in content["categories"]:
            known = categories.get(category["name"])
            if known is None or _has_more_keypoints(category, known):
                categories[category["name"]] = category
    names = list(categories) if ordered else sorted(categories, key=_natural)
    known = {category["name"]: category["id"] for category in first} if ordered else {}
    following = max(known.values(), default=0) + 1
    ids = known | {name: number for number, name in enumerate((n for n in names if n not in known), following)}
    shared = [categories[name] | {"id": ids[name]} for name in names]
    return [content | {"categories": shared, "annotations": _renumbered(content, ids)} for content in contents]


def _has_more_keypoints(category: dict[str, Any], known: dict[str, Any]) -> bool:
    """Returns whether only `category` has keypoints; raises DataError if both have different ones."""
    new, old = category.get("keypoints"), known.get("keypoints")
    if new and old and new != old:
        raise DataError(
            f"The class {known['name']!r} has the keypoints {old} in one file and {new} in another: "
            "rename the class in one of them."
        )
    return bool(new) and not old


def _renumbered(content: Content, ids: dict[str, int]) -> list[dict[str, Any]]:
    new = {category["id"]: ids[category["name"]] for category in content["categories"]}
    return [entry | {"category_id": new[entry["category_id"]]} for entry in content["annotations"]]


def _natural(name: str) -> tuple[bool, int, str]:
    number = name.isdecimal() and len(name) < 10
    return not number, int(name) if number else 0, name
