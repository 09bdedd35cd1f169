"""Pickles edited by opcode, zip files edited by entry, and hand-written malicious pickles."""

import io
import pickletools
import random
import struct
import zipfile
from collections.abc import Callable

GLOBALS = [
    "os\nsystem",
    "builtins\neval",
    "builtins\ngetattr",
    "builtins\nset",
    "builtins\nfrozenset",
    "builtins\nbytearray",
    "builtins\nbytes",
    "builtins\ncomplex",
    "__builtin__\nset",
    "collections\nOrderedDict",
    "collections\ndefaultdict",
    "_codecs\nencode",
    "numpy\nndarray",
    "numpy\ndtype",
    "numpy.core.multiarray\n_reconstruct",
    "numpy.core.multiarray\nscalar",
    "numpy._core.numeric\n_frombuffer",
    "torch._utils\n_rebuild_tensor_v2",
    "torch._utils\n_rebuild_parameter",
    "torch._utils\n_rebuild_sparse_tensor",
    "torch._utils\n_rebuild_qtensor",
    "torch._utils\n_rebuild_meta_tensor_no_storage",
    "torch\nFloatStorage",
    "torch\nSize",
    "torch\ndevice",
    "torch\nfloat32",
    "torch\nTensor",
    "a.b\nc.d",
    "\n",
    "torch.storage\nUntypedStorage",
]
NUMBERS = [0, 1, 2, 127, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1]


def operations(data: bytes) -> list[bytes]:
    """Splits a pickle into opcodes with their arguments; data that is not a pickle is one part."""
    found, starts = [], []
    try:
        starts = [position for _, _, position in pickletools.genops(data)]
    except Exception:  # an earlier edit may have broken the pickle
        pass
    for start, end in zip(starts, [*starts[1:], len(data)]):
        found.append(data[start:end])
    return found or [data]


def edit_pickle(rng: random.Random, data: bytes) -> bytes:
    """Deletes, repeats, swaps, inserts or replaces one to three opcodes or arguments."""
    parts = operations(data)
    for _ in range(rng.choice([1, 1, 2, 3])):
        at, kind = rng.randrange(len(parts)), rng.randrange(7)
        if kind == 0 and len(parts) > 1:
            del parts[at]
        elif kind == 1:
            parts.insert(at, parts[rng.randrange(len(parts))])
        elif kind == 2:
            other = rng.randrange(len(parts))
            parts[at], parts[other] = parts[other], parts[at]
        elif kind < 5:
            parts.insert(at, rng.choice(snippets(rng)))
        elif kind == 5:
            parts[at] = other_argument(rng, parts[at])
        else:
            parts[at] = bytes([rng.choice(OPCODES)]) + parts[at][1:]
    return b"".join(parts)


def edit_zip(rng: random.Random, data: bytes) -> bytes:
    """Deletes, repeats, renames, truncates, extends or compresses entries, or edits the pickle among them."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [(part.filename, archive.read(part)) for part in archive.infolist()]
    squeezed = zipfile.ZIP_STORED
    for _ in range(rng.choice([1, 1, 2])):
        at, kind = rng.randrange(len(entries)), rng.randrange(9)
        name, held = entries[at]
        if kind < 4:
            at = next((n for n, (name, _) in enumerate(entries) if name.endswith("data.pkl")), at)
            name, held = entries[at]
            entries[at] = (name, trap(rng) if rng.random() < 0.3 else edit_pickle(rng, held))
        elif kind == 4:
            del entries[at]
        elif kind == 5:
            entries.append((name, rng.choice(entries)[1]))
        elif kind == 6:
            other = rng.choice(
                [
                    "",
                    "../x",
                    "/x",
                    "archive/data/0",
                    "data.pkl",
                    "x" * 5000,
                    name.upper(),
                    f"a/{name}",
                    "archive/.format_version",
                ]
            )
            entries[at] = (other, held)
        elif kind == 7:
            entries[at] = (
                name,
                held[: rng.randrange(len(held) + 1)] if rng.random() < 0.5 else held + bytes(rng.choice([1, 10**6])),
            )
        else:
            squeezed = zipfile.ZIP_DEFLATED
            entries[at] = (name, bytes(rng.choice([10**4, 10**7])))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", squeezed) as archive:
        for name, held in entries:
            archive.writestr(zipfile.ZipInfo(name or "x"), held, squeezed)
    return file.getvalue()


OPCODES = [ord(opcode.code) for opcode in pickletools.opcodes]


def other_argument(rng: random.Random, part: bytes) -> bytes:
    if len(part) == 1:
        return part
    if len(part) in (2, 3, 5, 9):
        value = rng.choice([number for number in NUMBERS if number < 256 ** (len(part) - 1)])
        return part[:1] + value.to_bytes(len(part) - 1, "little")
    at = rng.randrange(1, len(part))
    return part[:at] + bytes([rng.randrange(256)]) + part[at + 1 :]


def snippets(rng: random.Random) -> list[bytes]:
    """Returns opcodes to insert anywhere."""
    number = rng.choice(NUMBERS)
    name = rng.choice(GLOBALS).encode()
    return [
        *(
            b"N",
            b"\x88",
            b"]",
            b"}",
            b")",
            b"\x8f",
            b"(",
            b"0",
            b"1",
            b"2",
            b".",
            b"s",
            b"u",
            b"a",
            b"e",
            b"t",
            b"l",
            b"d",
        ),
        *(
            b"\x85",
            b"\x86",
            b"\x87",
            b"R",
            b"b",
            b"o",
            b"\x81",
            b"\x92",
            b"\x90",
            b"\x91",
            b"\x94",
            b"Q",
            b"\x93",
            b"\x97",
            b"\x98",
        ),
        b"K" + bytes([number % 256]),
        b"J" + struct.pack("<i", number - 2**31),
        b"G" + struct.pack(">d", rng.choice([float("nan"), float("inf"), 1e308, 0.0])),
        b"h" + bytes([number % 256]),
        b"q" + bytes([number % 256]),
        b"r" + struct.pack("<I", number),
        b"j" + struct.pack("<I", number),
        b"c" + name + b"\n",
        b"c" + name + b"\n)R",
        b"c" + name + b"\n(K\x01K\x02tR",
        b"P" + rng.choice([b"0", b"abc", b"\xff"]) + b"\n",
        b"I" + rng.choice([b"1", b"00", b"01", b"abc", b"9" * 5000, b"-0"]) + b"\n",
        b"L" + rng.choice([b"1L", b"L", b"9" * 5000]) + b"\n",
        b"F" + rng.choice([b"nan", b"x", b"1e999"]) + b"\n",
        b"S" + rng.choice([b"'a'", b"a", b"'\\xff'"]) + b"\n",
        b"V" + rng.choice([b"\\ud800", b"\\u00", b"a"]) + b"\n",
        b"\x8a" + bytes([number % 256]) + bytes(number % 256),
        b"\x8b" + struct.pack("<i", number - 2**31),
        b"X" + struct.pack("<I", number) + b"abc",
        b"\x8d" + struct.pack("<Q", number << 31) + b"abc",
        b"\x8e" + struct.pack("<Q", number << 31) + b"abc",
        b"\x96" + struct.pack("<Q", number << 31) + b"abc",
        b"\x95" + struct.pack("<Q", number << 31),
        b"\x80" + bytes([rng.choice([0, 1, 2, 3, 4, 5, 6, 255])]),
        b"\x82\x01",
    ]


# Traps: each is a complete pickle.


def trap(rng: random.Random) -> bytes:
    return b"\x80\x04" + rng.choice(TRAPS)(rng) + b"."


def inside(key: bytes) -> Callable[[Callable], Callable]:
    return lambda make: lambda rng: b"}X" + struct.pack("<I", len(key)) + key + make(rng) + b"s"


def holds_itself(rng: random.Random) -> bytes:
    """Returns a dict or a list that contains itself, some under the key of a checkpoint wrapper."""
    key = rng.choice([b"model", b"state_dict", b"blobs", b"a"])
    name = b"X" + struct.pack("<I", len(key)) + key
    return rng.choice(
        [b"}q\0" + name + b"h\0s", b"]q\0h\0a", b"}q\0" + name + b"}q\x01" + name + b"h\0ss", b"(]q\0h\0tq\x01h\0"]
    )


def doubled_tuples(rng: random.Random) -> bytes:
    """Nests 2 ** n tuples in n opcodes."""
    return b"K\x01" + b"2\x86" * rng.choice([10, 30, 60, 400])


def tuple_key(rng: random.Random) -> bytes:
    return b"}" + doubled_tuples(rng) + b"K\x01s"


def tuple_in_set(rng: random.Random) -> bytes:
    return rng.choice([b"\x8f(" + doubled_tuples(rng) + b"\x90", b"(" + doubled_tuples(rng) + b"\x91"])


def tuple_as_kind(rng: random.Random) -> bytes:
    module = rng.choice([b"numpy.core.multiarray", b"numpy._core.multiarray"])
    return b"c" + module + b"\n_reconstruct\n" + doubled_tuples(rng) + b"K\0\x85C\x01b\x87R"


def tuple_as_argument(rng: random.Random) -> bytes:
    return b"c" + rng.choice(GLOBALS).encode() + b"\n" + doubled_tuples(rng) + b"\x85R"


def deep(rng: random.Random) -> bytes:
    depth = rng.choice([100, 900, 1100, 10_000, 100_000])
    return rng.choice(
        [
            b"]" * depth + b"a" * (depth - 1),
            b"N" + b"\x85" * depth,
            b"}K\x01" * depth + b"N" + b"s" * depth,
            b"(" * depth + b"t" * depth,
        ]
    )


def large_allocation(rng: random.Random) -> bytes:
    size = rng.choice([2**30, 2**33, 2**40, 2**62])
    return rng.choice(
        [
            b"cbuiltins\nbytearray\n\x8a\x08" + struct.pack("<q", size) + b"\x85R",
            b"cbuiltins\nbytes\n\x8a\x08" + struct.pack("<q", size) + b"\x85R",
            b"\x96" + struct.pack("<Q", size) + b"abc",
            b"N\x94" + b"r" + struct.pack("<I", 2**32 - 1) + b"N",
            b"cnumpy\nndarray\n\x8a\x08" + struct.pack("<q", size) + b"\x85\x85R",
            b"cnumpy\ndtype\nX\x0b\0\0\0S9999999999\x85R",
        ]
    )


def code(rng: random.Random) -> bytes:
    return rng.choice(
        [
            b"cos\nsystem\nX\x04\0\0\0true\x85R",
            b"cbuiltins\neval\nX\x01\0\0\x001\x85R",
            b"cos\nsystem\n)\x81",
            b"(X\x04\0\0\0trueios\nsystem\n",
        ]
    )


def quadratic(rng: random.Random) -> bytes:
    """Returns a huge integer, whose parsing may take quadratic time."""
    return rng.choice(
        [
            b"I" + b"9" * 200_000 + b"\n",
            b"\x8b" + struct.pack("<i", 10**6) + b"\x7f" * 10**6,
            b"L" + b"9" * 4299 + b"L\n",
        ]
    )


TRAPS: list[Callable[[random.Random], bytes]] = [
    *(
        holds_itself,
        doubled_tuples,
        tuple_key,
        tuple_in_set,
        tuple_as_kind,
        tuple_as_argument,
        deep,
        large_allocation,
        code,
    ),
    *(
        quadratic,
        inside(b"model")(tuple_key),
        inside(b"model")(deep),
        inside(b"a")(doubled_tuples),
        inside(b"model")(doubled_tuples),
    ),
    *(inside(b"fc.weight")(tuple_as_kind), inside(b"classes")(deep), inside(b"experiment")(holds_itself)),
]
