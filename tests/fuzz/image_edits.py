"""Edits of image files by structure: JPEG segments, PNG chunks, TIFF directories, and header fields."""

import random
import struct
import zlib
from collections.abc import Callable

SIDES = [0, 1, 2, 3, 8, 37, 50, 255, 256, 1000, 4096, 16383, 16384, 30000, 65535]
SIDES32 = [*SIDES, 65536, 2**20, 2**31 - 1, 2**31, 2**32 - 1]
WORDS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 24, 32, 255, 256, 274, 0x7FFF, 0x8000, 0xFFFF]
LONGS = [*WORDS, 2**16, 2**24, 2**28, 2**31 - 1, 2**31, 2**32 - 1]
ORIENTATION = 274


def exif(order: str, orientation: int, entries: tuple = (), following: int = 0, at: int = 8) -> bytes:
    """Returns an APP1 segment; `entries` are additional tags (tag, type, count, value)."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    tags = [(ORIENTATION, 3, 1, orientation), *entries]
    rows = b"".join(
        struct.pack(order + "HHI", tag, kind, count)
        + (struct.pack(order + "HH", value % 65536, 0) if kind == 3 else struct.pack(order + "I", value))
        for tag, kind, count, value in tags
    )
    directory = struct.pack(order + "H", len(tags)) + rows + struct.pack(order + "I", following)
    content = b"Exif\0\0" + mark + struct.pack(order + "I", at) + directory
    return b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content


def odd_exif(rng: random.Random) -> bytes:
    """Returns an Exif segment with loops, wild offsets and invalid types or values."""
    entries = tuple(
        (
            rng.choice([ORIENTATION, 0x8769, 0x8825, 256, 513]),
            rng.choice([0, 1, 2, 3, 4, 5, 12, 13, 99]),
            rng.choice(LONGS),
            rng.choice(LONGS),
        )
        for _ in range(rng.choice([0, 0, 1, 3]))
    )
    return exif(
        rng.choice("<>"),
        rng.choice([0, 1, 5, 6, 7, 8, 9, 65535]),
        entries,
        rng.choice([0, 8, *LONGS]),
        rng.choice([8, 8, 8, 0, *LONGS]),
    )


# JPEG: a list of segments, followed by the scan.


def jpeg_parts(data: bytes) -> tuple[list[bytes], bytes]:
    parts, position = [data[:2]], 2
    while position + 4 <= len(data) and data[position] == 0xFF and data[position + 1] != 0xDA:
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        parts.append(data[position:end])
        position = end
    return parts, data[position:]


def edit_jpeg(rng: random.Random, data: bytes) -> bytes:
    parts, scan = jpeg_parts(data)
    for _ in range(rng.choice([1, 1, 2, 3])):
        kind = rng.randrange(11)
        at = rng.randrange(1, len(parts))
        frames = [n for n, part in enumerate(parts) if len(part) > 9 and part[1] in (0xC0, 0xC1, 0xC2)]
        if kind == 0 and frames:
            parts[frames[0]] = frame_of(rng, parts[frames[0]])
        elif kind == 1 and frames:
            part = bytearray(parts[frames[0]])
            part[rng.randrange(4, len(part))] = rng.choice([0, 1, 2, 3, 4, 8, 12, 0x11, 0x22, 0x44, 0xFF])
            parts[frames[0]] = bytes(part)
        elif kind == 2 and len(parts) > 2:
            del parts[at]
        elif kind == 3:
            parts.insert(at, rng.choice(parts[1:]))
        elif kind == 4:
            other = rng.randrange(1, len(parts))
            parts[at], parts[other] = parts[other], parts[at]
        elif kind == 5:
            length = rng.choice([0, 1, 2, 3, len(parts[at]), 65535])
            parts[at] = parts[at][:2] + struct.pack(">H", length) + parts[at][4:]
        elif kind == 6:
            parts.insert(at, odd_exif(rng))
        elif kind == 7:
            parts.insert(at, b"\xff" + bytes([rng.randrange(256)]) + struct.pack(">H", 6) + rng.randbytes(4))
        elif kind == 8:
            cut = rng.randrange(len(scan) + 1)
            scan = scan[:cut] + rng.choice(
                [b"", b"\xff\xd9", b"\xff\xd9" + scan[cut:], b"\xff\xda", b"\xff" * 100 + scan[cut:]]
            )
        elif kind == 9:
            cut = rng.randrange(len(scan) + 1)
            scan = scan[:cut] + bytes([0xFF, rng.choice([0xD0, 0xD3, 0xD7, 0xC4, 0xDB, 0xC0, 0xDD, 0x01])]) + scan[cut:]
        else:
            scan = scan * rng.choice([2, 5, 50])
    return b"".join(parts) + scan


def frame_of(rng: random.Random, part: bytes) -> bytes:
    height, width = rng.choice(
        [(rng.choice(SIDES), rng.choice(SIDES)), (37, rng.choice(SIDES)), (rng.choice(SIDES), 50)]
    )
    marker = part[1] if rng.random() < 0.7 else rng.choice([0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC9, 0xCA, 0xCF])
    return b"\xff" + bytes([marker]) + part[2:5] + struct.pack(">HH", height, width) + part[9:]


# PNG: chunks, written with correct checksums.


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks, position = [], 8
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        chunks.append((kind, data[position + 8 : position + 8 + length]))
        position += 12 + length
    return chunks


def png_of(chunks: list[tuple[bytes, bytes]]) -> bytes:
    written = (struct.pack(">I", len(c)) + kind + c + struct.pack(">I", zlib.crc32(kind + c)) for kind, c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


def edit_png(rng: random.Random, data: bytes) -> bytes:
    chunks = png_chunks(data)
    for _ in range(rng.choice([1, 1, 2, 3])):
        kind, at = rng.randrange(9), rng.randrange(len(chunks))
        if kind < 2:
            chunks[0] = (b"IHDR", png_header(rng, chunks[0][1]))
        elif kind == 2 and len(chunks) > 1:
            del chunks[at]
        elif kind == 3:
            chunks.insert(at, rng.choice(chunks))
        elif kind == 4:
            other = rng.randrange(len(chunks))
            chunks[at], chunks[other] = chunks[other], chunks[at]
        elif kind == 5:
            chunks.insert(at, rng.choice(odd_chunks(rng)))
        elif kind == 6:
            name, content = chunks[at]
            chunks[at] = (name, content[: rng.randrange(len(content) + 1)])
        elif kind == 7:
            chunks[at] = (bytes([rng.choice(b"ABab\0\xff"), *chunks[at][0][1:]]), chunks[at][1])
        else:
            chunks = [
                (name, zlib.compress(bytes(rng.choice([0, 10, 10**6, 10**8])))) if name == b"IDAT" else (name, c)
                for name, c in chunks
            ]
    data = png_of(chunks)
    if rng.random() < 0.2:
        at = rng.choice([8, 33, len(data) - 12])
        data = data[:at] + struct.pack(">I", rng.choice(LONGS)) + data[at + 4 :]
    return data


def png_header(rng: random.Random, content: bytes) -> bytes:
    sides = rng.choice(
        [(rng.choice(SIDES32), rng.choice(SIDES32)), (50, rng.choice(SIDES32)), (rng.choice(SIDES32), 37), (50, 37)]
    )
    rest = list(content[8:13]) + [0] * (5 - len(content[8:13]))
    if rng.random() < 0.5:
        rest[rng.randrange(5)] = rng.choice([0, 1, 2, 3, 4, 6, 8, 16, 255])
    return struct.pack(">II", *sides) + bytes(rest)


def odd_chunks(rng: random.Random) -> list[tuple[bytes, bytes]]:
    return [
        (b"eXIf", odd_exif(rng)[10:]),
        (b"eXIf", b""),
        (b"PLTE", rng.randbytes(rng.choice([0, 1, 3, 768, 771]))),
        (b"tRNS", rng.randbytes(rng.choice([0, 2, 6, 300]))),
        (b"iCCP", b"x\0\0" + zlib.compress(bytes(10**6))),
        (b"zTXt", b"x\0\0" + zlib.compress(bytes(10**7))),
        (b"iTXt", b"x" * 100),
        (b"acTL", struct.pack(">II", rng.choice(LONGS), rng.choice(LONGS))),
        (b"fcTL", struct.pack(">IIIIIHHBB", 0, *(rng.choice(SIDES32) for _ in range(4)), 1, 1, 0, 0)),
        (b"fdAT", rng.randbytes(20)),
        (b"gAMA", struct.pack(">I", rng.choice(LONGS))),
        (b"sBIT", rng.randbytes(3)),
        (b"IEND", b""),
        (b"abcd", b""),
    ]


# BMP, GIF, TIFF and WebP: fields at known offsets.


def edit_fields(rng: random.Random, data: bytes, fields: dict[int, str]) -> bytes:
    """Overwrites one to three fields of a header, given by offset and struct format."""
    for _ in range(rng.choice([1, 1, 2, 3])):
        at, form = rng.choice(sorted(fields.items()))
        bits = 8 * struct.calcsize(form)
        value = rng.choice([v for v in SIDES32 + LONGS if v < 2**bits])
        if at + bits // 8 <= len(data):
            value -= 2**bits if form[-1].islower() and value >= 2 ** (bits - 1) else 0
            data = data[:at] + struct.pack(form, value) + data[at + bits // 8 :]
    return data


BMP_FIELDS = {
    2: "<I",
    10: "<I",
    14: "<I",
    18: "<i",
    22: "<i",
    26: "<H",
    28: "<H",
    30: "<I",
    34: "<I",
    46: "<I",
    50: "<I",
    54: "<I",
}
GIF_FIELDS = {6: "<H", 8: "<H", 10: "<B", 11: "<B", 12: "<B"}
WEBP_FIELDS = {4: "<I", 16: "<I", 20: "<B", 24: "<H", 26: "<H", 28: "<H", 21: "<I", 25: "<I", 30: "<I"}


def edit_bmp(rng: random.Random, data: bytes) -> bytes:
    if rng.random() < 0.3:
        data = (
            data[:28]
            + struct.pack("<HI", rng.choice([1, 4, 8, 16, 24, 32]), rng.choice([0, 1, 2, 3, 4, 5]))
            + data[34:]
        )
    return edit_fields(rng, data, BMP_FIELDS)


def edit_gif(rng: random.Random, data: bytes) -> bytes:
    frames = [at for at in range(13, len(data) - 9) if data[at] == 0x2C and at < 1200]
    fields = dict(GIF_FIELDS)
    if frames:
        start = rng.choice(frames)
        fields |= {
            start + 1: "<H",
            start + 3: "<H",
            start + 5: "<H",
            start + 7: "<H",
            start + 9: "<B",
            start + 10: "<B",
        }
    return edit_fields(rng, data, fields)


def edit_tiff(rng: random.Random, data: bytes) -> bytes:
    """Overwrites entries of the first directory (tag, type, count, value) or the offset of the next one."""
    order = "<" if data.startswith(b"II") else ">"
    (start,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, start)
    fields = {4: order + "I", start: order + "H", start + 2 + 12 * count: order + "I"}
    for row in range(count):
        at = start + 2 + 12 * row
        fields |= {at: order + "H", at + 2: order + "H", at + 4: order + "I", at + 8: order + "I"}
    data = edit_fields(rng, data, fields)
    if rng.random() < 0.2 and start + 2 + 12 * count + 4 <= len(data):
        at = start + 2 + 12 * count
        data = data[:at] + struct.pack(order + "I", start) + data[at + 4 :]
    return data


def edit_webp(rng: random.Random, data: bytes) -> bytes:
    if rng.random() < 0.3:
        flags, width, height = rng.randrange(256), rng.choice(SIDES32) % 2**24, rng.choice(SIDES32) % 2**24
        canvas = (
            struct.pack("<4sIBxxx", b"VP8X", 10, flags) + width.to_bytes(3, "little") + height.to_bytes(3, "little")
        )
        return data[:12] + canvas + data[12:]
    if rng.random() < 0.2:
        kind = rng.choice([b"EXIF", b"XMP ", b"ICCP", b"ANIM", b"ANMF", b"ALPH"])
        content = odd_exif(rng)[10:] if kind == b"EXIF" else rng.randbytes(rng.choice([0, 6, 16, 40]))
        return data + struct.pack("<4sI", kind, rng.choice([len(content), *LONGS])) + content
    return edit_fields(rng, data, WEBP_FIELDS)


EDITS: dict[str, Callable[[random.Random, bytes], bytes]] = {
    "jpeg": edit_jpeg,
    "png": edit_png,
    "bmp": edit_bmp,
    "gif": edit_gif,
    "tiff": edit_tiff,
    "webp": edit_webp,
}
