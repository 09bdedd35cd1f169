"""Reads large JSON files in bounded memory: long lists of objects are parsed entry by entry into packed columns.

As Python objects, the lists of a COCO file take many times the memory of the file; packed or as text, about as much as
the file.
"""

import codecs
import json
import marshal
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from resdet.files.json_file import read_json, without_collection, without_duplicates

CHUNK = 2**20  # bytes per read
TAIL = 2**16  # characters at the end of the window in which the last border of two entries is searched
BLOCK = 8192  # entries per block
LONGEST = 2**26  # maximum length of an entry in characters
PACKING = 2  # marshal's format without references
AFTER = frozenset(",:]} \t\n\r")  # characters that can follow a value
SPACE = re.compile(r"[ \t\n\r]*")
BORDER = re.compile(r"\}[ \t\n\r]*,[ \t\n\r]*(?=\{)")  # between two objects


class JsonColumns:
    """A list of objects by key, in blocks of entries; entries that are not objects are replaced by empty ones."""

    def __init__(self) -> None:
        self._blocks: list[dict[str, bytes]] = []
        self._rest: list[dict[str, Any]] = []
        self._unpacked: tuple[int, list[dict[str, Any]]] = (-1, [])
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, i: int) -> dict[str, Any]:
        """Returns an entry, without keys whose value is null."""
        number, row = divmod(i, BLOCK)
        if number == len(self._blocks):
            return _without_null(self._rest[row])
        if self._unpacked[0] != number:
            columns = {key: marshal.loads(data) for key, data in self._blocks[number].items()}
            rows = zip(*columns.values()) if columns else [()] * BLOCK
            self._unpacked = (number, [_without_null(dict(zip(columns, row))) for row in rows])
        return self._unpacked[1][row]

    def extend(self, entries: list[Any]) -> None:
        self._rest += [entry if isinstance(entry, dict) else {} for entry in entries]
        self._count += len(entries)
        while len(self._rest) >= BLOCK:
            block, self._rest = self._rest[:BLOCK], self._rest[BLOCK:]
            keys = dict.fromkeys(chain.from_iterable(block))
            pack = lambda key: marshal.dumps([entry.get(key) for entry in block], PACKING)
            self._blocks.append({key: pack(key) for key in keys})

    def values(self, *keys: str) -> Iterator[tuple[list[Any], ...]]:
        """Yields the values of the keys block by block, as one list per key; None for missing values."""
        for block in self._blocks:
            yield tuple(marshal.loads(block[key]) if key in block else [None] * BLOCK for key in keys)
        if self._rest or not self._blocks:
            yield tuple([entry.get(key) for entry in self._rest] for key in keys)

    def pop(self, key: str) -> Iterator[list[Any]]:
        """Removes a key and yields its values in blocks, each of which is freed once read."""
        packed = [block.pop(key, None) for block in self._blocks]
        rest = [entry.pop(key, None) for entry in self._rest]
        self._unpacked = (-1, [])
        return _unpacked(packed[::-1], rest)


def _unpacked(packed: list[bytes | None], rest: list[Any]) -> Iterator[list[Any]]:
    while packed:
        data = packed.pop()
        yield [None] * BLOCK if data is None else marshal.loads(data)
    yield rest


def _without_null(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if value is not None}


class JsonTexts:
    """A list of objects stored as JSON texts; entries of other types are replaced by empty objects."""

    def __init__(self) -> None:
        self._texts: list[bytes] = []

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, i: int) -> dict[str, Any]:
        entry: dict[str, Any] = json.loads(self._texts[i])
        return entry

    def extend(self, entries: list[Any]) -> None:
        self._texts += [compact(entry if isinstance(entry, dict) else {}).encode() for entry in entries]


def compact(content: Any) -> str:
    """Returns JSON without white space, in ASCII."""
    return json.dumps(content, separators=(",", ":"))


def read_columns(file: Path | str, keys: Sequence[str], kind: type[JsonColumns] | type[JsonTexts] = JsonColumns) -> Any:
    """Like `read_json`, but returns the top-level lists of these `keys` as `kind`."""
    try:
        with open(file, "rb") as opened, without_collection():
            return _Reader(opened, kind).top(frozenset(keys))
    except (OSError, ValueError, RecursionError):
        return read_json(file)  # raises an error with the position


class _Reader:
    """Parses the text of a file through a window in memory; raises a ValueError for anything unexpected."""

    def __init__(self, file: Any, kind: type[JsonColumns] | type[JsonTexts]):
        self.kind = kind
        self.file, self.decode = file, codecs.getincrementaldecoder("utf-8-sig")().decode
        self.parse = json.JSONDecoder(object_pairs_hook=without_duplicates).raw_decode
        self.text, self.position, self.ended = "", 0, False
        self.in_bulk = True  # whether to parse many entries of this window at once

    def top(self, keys: frozenset[str]) -> dict[str, Any]:
        """Parses the object that is the whole file."""
        self.take("{")
        pairs: list[tuple[str, Any]] = []
        while self.peek() != "}":
            if pairs:
                self.take(",")
            name = self.value()
            if not isinstance(name, str):
                raise ValueError("a key is not a string")
            self.take(":")
            pairs.append((name, self.entries(name in keys) if self.peek() == "[" else self.value()))
        self.take("}")
        if self.peek():
            raise ValueError("there is text after the end")
        return without_duplicates(pairs)

    def entries(self, packed: bool) -> "JsonColumns | JsonTexts | list[Any]":
        """Parses a list, window by window."""
        self.take("[")
        items: JsonColumns | JsonTexts | list[Any] = self.kind() if packed else []
        while self.peek() != "]":
            if len(items):
                self.take(",")
            items.extend(self.bulk() or [self.value()])
        self.take("]")
        return items

    def bulk(self) -> list[Any]:
        """Parses the entries of the list that end in the window, up to the last border of two objects, if there is one.

        If the text up to the border, closed by a bracket, is a list, it consists of whole entries or contains the end
        of the list.
        """
        self.peek()
        tail = max(self.position, len(self.text) - TAIL)
        borders = [match.start() + 1 for match in BORDER.finditer(self.text, tail)] if self.in_bulk else []
        if not borders:
            return []
        try:
            entries, end = self.parse(f"[{self.text[self.position : borders[-1]]}]")
        except ValueError:  # the border is inside an entry
            self.in_bulk = False
            return []
        self.position += end - 2
        return entries

    def value(self) -> Any:
        self.peek()
        while True:
            try:
                value, end = self.parse(self.text, self.position)
                if self.text[end : end + 1] in AFTER or self.ended:  # otherwise it may be the first digits of a number
                    self.position = end
                    return value
            except ValueError:
                if self.ended or len(self.text) - self.position > LONGEST:
                    raise
            self.read()

    def take(self, expected: str) -> None:
        if self.peek() != expected:
            raise ValueError(f"{expected} is expected")
        self.position += 1

    def peek(self) -> str:
        """Returns the next character that is not white space; empty at the end."""
        while True:
            match = SPACE.match(self.text, self.position)
            assert match
            self.position = match.end()
            if self.position < len(self.text) or self.ended:
                return self.text[self.position : self.position + 1]
            self.read()

    def read(self) -> None:
        """Reads at least as many characters as are unread."""
        rest = self.text[self.position :]
        data = self.file.read(max(CHUNK, len(rest)))
        self.ended = not data
        self.text, self.position = rest + self.decode(data, final=self.ended), 0
        self.in_bulk = True
