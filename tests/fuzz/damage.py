"""Damage shared by all kinds: to bytes, to text, and to trees of lists and dicts as in JSON and YAML."""

import copy
import json
import random
from collections.abc import Callable
from typing import Any


class Raw:
    """Text inserted into the output verbatim, for nesting and numbers that Python's writers refuse."""

    def __init__(self, text: str):
        self.text = text

    def __deepcopy__(self, memo: dict) -> "Raw":
        return self


NUMBERS = [
    *(0, 1, -1, 2, 255, 256, 65535, 2**24, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 2**64),
    *(10**30, 10**400, -(10**400), 100_000_000, 400_000_000),
    *(0.0, -0.0, 0.5, 1e8, 4e8, -1e8, 1e20, 1e38, 1e39, 1e308, 5e-324, -1e308),
    *(float("nan"), float("inf"), float("-inf")),
]
STRINGS = [
    *(
        "",
        " ",
        "0",
        "12",
        "1e5",
        "NaN",
        "null",
        "true",
        "None",
        "a",
        "ä",
        "日本",
        "😀",
        "\ud800",
        "\udfff\ud800",
        "a\0b",
    ),
    *("\0", "a\nb", "a\rb", "a\x1b[31mb", "../../x", "/", "/dev/null", ".", "..", "a/b/c", "x" * 300, "x" * 10_000),
    *("{}", "%s %d", "\u2028", "\ufeff", "a b.jpg", "\\", "//host/share", "~", "$HOME", "NUL"),
]
# Coordinates of points and boxes.
COORDINATES = [
    -1e9,
    -1,
    0,
    0.5,
    23,
    24,
    25,
    1e3,
    1e5,
    1e8,
    4e8,
    1e20,
    1e308,
    float("nan"),
    float("inf"),
    -4e8,
]
# RLE counts of a mask of 384 pixels, valid and invalid, uncompressed and compressed.
COUNTS = [
    *([384], [0, 384], [100, 284], [-1, 385], [384, 0], [2**40], [2**63 - 1, 1], [0.5, 383.5], [], [None], ["384"]),
    *(
        [1] * 384,
        [[384]],
        [10**400],
        "d29700000000000l5",
        "T1800<2e1",
        "`<",
        "",
        "0",
        "~~~~",
        "\x7f",
        "é",
        "ooooooooooo0",
    ),
    *("oooo3", "PPPP", "h\\" * 1000, None, 7, True, {"a": 1}),
]
DEPTHS = [10, 100, 900, 1100, 5_000, 100_000]


def odd_value(rng: random.Random, like: Any = None) -> Any:
    """Returns a value of an unexpected type or an extreme value."""
    draw = rng.random()
    if draw < 0.35:
        return rng.choice(NUMBERS)
    if draw < 0.5 and isinstance(like, (int, float)) and not isinstance(like, bool):
        near = max(-(10**300), min(like, 10**300))  # float() overflows for larger numbers
        return rng.choice([-like, like + 1, like * 10**6, str(like), [like], float(near), near + 0.5, bool(like)])
    if draw < 0.7:
        return rng.choice(STRINGS)
    if draw < 0.78:
        return rng.choice([None, True, False])
    if draw < 0.95:
        return copy.deepcopy(
            rng.choice([[], {}, [[]], [{}], [1], [1, 2, 3, 4], [None], ["a"], {"a": 1}, {"id": 1}, [[1, 2]]])
        )
    return deep(rng)


def deep(rng: random.Random) -> Raw:
    """Returns nested lists or dicts; in some the last bracket is missing."""
    depth = rng.choice(DEPTHS)
    opening, closing = rng.choice([("[", "]"), ('{"a":', "}"), ("[[],", "]"), ('[{"a":', "}]")])
    inner = "1" if opening[0] == "{" or ":" in opening else ""
    if opening == "[[],":
        inner = "1"
    return Raw(opening * depth + inner + closing * (depth if rng.random() < 0.9 else depth - 1))


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Returns (container, key) of every value of the tree."""
    found, waiting = [], [tree]
    while waiting:
        node = waiting.pop()
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in items:
            found.append((node, key))
            if isinstance(value, (dict, list)):
                waiting.append(value)
    return found


def mutate_tree(rng: random.Random, tree: Any, odd: Callable[[random.Random, Any], Any] = odd_value) -> Any:
    """Makes one change in place and returns the tree, or replaces the whole tree."""
    found = places(tree)
    if not found or rng.random() < 0.01:
        return odd(rng, tree)
    node, key = pick(rng, found)
    rng.choice(CHANGES)(rng, tree, node, key, found, odd)
    return tree


def pick(rng: random.Random, found: list[tuple[Any, Any]]) -> tuple[Any, Any]:
    """Picks a place, mostly by choosing a key name first, so that rare keys are picked as often as frequent ones."""
    named = sorted({key for _, key in found if isinstance(key, str)})
    if named and rng.random() < 0.6:
        wanted = rng.choice(named)
        return rng.choice([place for place in found if place[1] == wanted])
    return rng.choice(found)


def _replace(rng: random.Random, tree: Any, node: Any, key: Any, found: list, odd: Callable) -> None:
    node[key] = odd(rng, node[key])


def _delete(rng: random.Random, tree: Any, node: Any, key: Any, found: list, odd: Callable) -> None:
    del node[key]


def _duplicate(rng: random.Random, tree: Any, node: Any, key: Any, found: list, odd: Callable) -> None:
    if isinstance(node, list):
        node.insert(rng.randrange(len(node) + 1), copy.deepcopy(node[key]))
    else:
        node[f"{key}{rng.choice(['', ' ', '_', '2'])}"] = copy.deepcopy(node[key])


def _swap(rng: random.Random, tree: Any, node: Any, key: Any, found: list, odd: Callable) -> None:
    """Swaps two values of a container, or copies a value from elsewhere."""
    if rng.random() < 0.5:
        other = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
        node[key], node[other] = node[other], node[key]
    else:
        place, name = rng.choice(found)
        node[key] = copy.deepcopy(place[name])


def _wrap(rng: random.Random, tree: Any, node: Any, key: Any, found: list, odd: Callable) -> None:
    node[key] = [node[key]] if rng.random() < 0.5 else {"a": node[key]}


def _rename(rng: random.Random, tree: Any, node: Any, key: Any, found: list, odd: Callable) -> None:
    if isinstance(node, dict):
        value = node.pop(key)
        node[rng.choice([*STRINGS[:12], "id", "name", f"{key}s", str(key).upper()])] = value
    else:
        node[:] = node[key:] + node[:key]


def _repeat(rng: random.Random, tree: Any, node: Any, key: Any, found: list, odd: Callable) -> None:
    if isinstance(node, list):
        node.extend([node[key]] * rng.choice([1, 10, 1000]))
    elif isinstance(node[key], list):
        node[key] = node[key] * rng.choice([0, 2, 10])
    elif isinstance(node[key], str):
        node[key] = node[key] * rng.choice([0, 2, 1000])
    else:
        node[key] = odd(rng, node[key])


CHANGES = [_replace, _replace, _replace, _replace, _delete, _delete, _duplicate, _swap, _swap, _wrap, _rename, _repeat]


def mutations(rng: random.Random) -> int:
    """Draws the number of changes of a case: mostly one, because the first error hides the others."""
    return rng.choice([1, 1, 1, 1, 1, 2, 2, 3, 5])


def to_json(tree: Any) -> str:
    """Writes JSON with the texts of `Raw` values inserted verbatim."""
    raws: list[str] = []

    def keep(value: Any) -> str:
        raws.append(value.text)
        return f"\0RAW{len(raws) - 1}\0"

    text = json.dumps(tree, default=keep)
    for number, raw in enumerate(raws):
        text = text.replace(f'"\\u0000RAW{number}\\u0000"', raw)
    return text


def damage_text(rng: random.Random, text: str) -> str:
    """Truncates text, inserts syntax characters, and deletes, repeats or copies pieces."""
    for _ in range(mutations(rng)):
        if not text:
            return text
        at = rng.randrange(len(text))
        kind = rng.randrange(5)
        if kind == 0:
            text = text[:at]
        elif kind == 1:
            text = (
                text[:at]
                + rng.choice(list('[]{}",:-.eE0 \n\t\0\\<>&#*!%@`|') + ["NaN", "Infinity", "//", "9" * 5000])
                + text[at:]
            )
        elif kind == 2:
            text = text[:at] + text[at + rng.choice([1, 1, 5, 50]) :]
        elif kind == 3:
            length = rng.choice([1, 10, 100])
            text = text[:at] + text[at : at + length] * 2 + text[at + length :]
        else:
            other = rng.randrange(len(text))
            text = text[:at] + text[other : other + rng.choice([1, 10, 100])] + text[at:]
    return text


def damage_bytes(rng: random.Random, data: bytes, near: int | None = None) -> bytes:
    """Flips bits and overwrites, deletes, inserts or copies bytes; `near` limits the damage to the first bytes."""
    data = bytearray(data)
    for _ in range(mutations(rng)):
        limit = min(len(data), near or len(data))
        if not limit:
            return bytes(data)
        at = rng.randrange(limit)
        kind = rng.randrange(8)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFE, 0xFF, rng.randrange(256)])
        elif kind == 2:
            width = rng.choice([2, 4, 8])
            value = rng.choice(
                [0, 1, 2 ** (8 * width) - 1, 2 ** (8 * width - 1), 2 ** (8 * width - 1) - 1, 65536, 1 << 28]
            )
            data[at : at + width] = (value % 2 ** (8 * width)).to_bytes(width, rng.choice(["little", "big"]))
        elif kind == 3:
            del data[at:]
        elif kind == 4:
            del data[at : at + rng.choice([1, 2, 4, 16, 256])]
        elif kind == 5:
            data[at:at] = rng.randbytes(rng.choice([1, 2, 4, 16, 256]))
        elif kind == 6:
            other = rng.randrange(len(data))
            length = rng.choice([1, 4, 16, 64, 256])
            data[at : at + length] = data[other : other + length]
        else:
            length = rng.choice([4, 16, 64])
            data[at : at + length] = bytes(length)
    return bytes(data)
