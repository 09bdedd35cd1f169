"""Tests that damaged, malicious or slow uploads get a 4xx status with a short message and use little memory."""

import asyncio
import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
from serve.serving import PATIENCE, StandIn, form, picture

from resdet.images.decode import EncodedImage
from resdet.serve.limits import Limits
from resdet.serve.uploads import declared_size, name_of, webp_size

LIMITS = Limits(max_bytes=2**20, max_pixels=10**6, max_images=4, body_timeout=PATIENCE)


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """Returns a PNG file that declares a size."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", data), (b"IEND", b""))
    parts = (struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def bomb() -> bytes:
    """Returns a PNG file of 500 kB with 36 megapixels of zeros."""
    return png(6000, 6000, zlib.compress(bytes(6000 * 18_001), 1))


BOMB = bomb()


def webp(width: int, height: int) -> bytes:
    """Returns a WebP file whose extended header declares a size."""
    sides = b"".join((side - 1).to_bytes(3, "little") for side in (width, height))
    return b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + sides


HOSTILE = {
    "empty": (b"", {}, 422),
    "not an image": (b"#!/bin/sh\necho hello\n" * 9, {}, 422),
    "HTML as JPEG": (b"<html></html>", {"content_type": "image/jpeg"}, 422),
    "truncated JPEG": (picture(90, 90, ".jpg")[:-400], {}, 422),
    "truncated PNG": (picture(90, 90)[:-100], {}, 422),
    "damaged PNG": (png(30, 20, b"damaged"), {}, 422),
    "magic alone": (b"\xff\xd8\xff", {}, 422),
    "header of 30000 x 30000": (png(30_000, 30_000), {}, 413),
    "decompression bomb": (BOMB, {}, 413),
    "WebP of 16000 x 16000": (webp(16_000, 16_000), {}, 413),
    "WebP without pixels": (webp(30, 20), {}, 422),
    "PNM, whose size is unknown": (b"P6 30000 30000 255\n" + bytes(99), {}, 422),
    "no pixels": (png(0, 20), {}, 422),
    "negative size of a BMP": (b"BM" + bytes(16) + struct.pack("<ii", -5, -7) + bytes(30), {}, 422),
    "text": (b"hello", {"content_type": "text/plain"}, 415),
    "JSON": (b"{}", {"content_type": "application/json"}, 415),
    "body too large": (bytes(2**20 + 1), {}, 413),
    "declared too large": (b"", {"content_length": str(2**40)}, 413),
    "form without a boundary": (b"", {"content_type": "multipart/form-data"}, 400),
    "form of garbage": (b"garbage" * 99, {"content_type": "multipart/form-data; boundary=x"}, 400),
    "form cut off": (form([("a.png", picture())] * 2)[0][:-30], {"content_type": form([])[1]}, 400),
    "form without its end": (form([("a.png", picture())] * 2)[0][:-4], {"content_type": form([])[1]}, 400),
    "form without files": (*form([]), 422),
    "10,000 parts": (*form([("a.png", b"")] * 10_000), 400),
    "one part too many": (*form([("a.png", picture())] * 5), 400),
    "a part that is not an image": (*form([("a.png", picture()), ("b.png", b"no")]), 422),
    "fields instead of files": (
        b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\n1\r\n--x--\r\n',
        {"content_type": "multipart/form-data; boundary=x"},
        400,
    ),
}


@pytest.fixture(params=HOSTILE)
def hostile(request):
    body, headers, status = HOSTILE[request.param]
    return body, {"content_type": headers} if isinstance(headers, str) else headers, status


def test_hostile_uploads(serve, hostile):
    body, headers, status = hostile
    stand_in = StandIn()
    server = serve(LIMITS, boxes=stand_in.loaded())
    stand_in.batches.clear()
    response = server.post(body, **headers)
    assert response.status == status
    assert list(response.json) == ["error"] and 10 < len(response.json["error"]) < 400
    assert "on_bad_image" not in response.json["error"]
    assert not stand_in.batches and server.models.get(None).worker.admitted == 0
    assert server.post(picture()).status == 200


def test_a_decompression_bomb_is_not_decoded(serve):
    """Measures with tracemalloc, which includes numpy's memory: the decoded pixels would take 108 MB."""
    server = serve(Limits(max_pixels=10**6))
    tracemalloc.start()
    try:
        assert server.post(BOMB).status == 413
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()


def test_a_body_without_a_length_is_limited(serve):
    """Checks that an endless body is rejected as soon as it exceeds the limit."""
    sent = []

    async def endless():
        while True:
            sent.append(1)
            yield bytes(2**16)

    response = asyncio.run(serve(LIMITS).ask("POST", "/v1/predict", endless()))
    assert response.status == 413 and response.headers["connection"] == "close"
    assert len(sent) == LIMITS.max_bytes // 2**16 + 1


def test_a_slow_body_is_rejected(serve):
    async def slow(start):
        yield start
        await asyncio.Event().wait()

    body, kind = form([("a.png", picture())])
    for start, headers in ((picture()[:20], {}), (body[:120], {"content_type": kind})):
        server = serve(Limits(body_timeout=0.2))
        response = asyncio.run(server.ask("POST", "/v1/predict", slow(start), headers))
        assert response.status == 408 and response.headers["connection"] == "close"
        assert server.models.get(None).worker.admitted == 0


def test_an_image_of_one_pixel(serve):
    (result,) = serve().post(picture(1, 1)).json["results"]
    assert (result["height"], result["width"]) == (1, 1)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\photos\\a.jpg", "a.jpg"),
        ("a\x00b\n.jpg", "ab.jpg"),
        ("..", ".."),
        ("/", "image 7"),
        (None, "image 7"),
        ("x" * 5000, "x" * 200),
    ],
)
def test_file_names_are_sanitized(given, name):
    assert name_of(given, 7) == name


@pytest.mark.parametrize("quality", [10, 90, 101])
@pytest.mark.parametrize("size", [(1, 1), (17, 300), (255, 256)])
def test_webp_headers_declare_the_size_of_the_pixels(quality, size):
    """Checks lossy files, and lossless ones (quality above 100), as written by OpenCV."""
    height, width = size
    pixels = np.random.default_rng(0).integers(256, size=(height, width, 3), dtype=np.uint8)
    data = cv2.imencode(".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()
    assert declared_size(EncodedImage(data, "a.webp")) == EncodedImage(data, "a.webp").size == (width, height)
    assert declared_size(EncodedImage(webp(width, height), "a.webp")) == (width, height)


def test_the_scale_in_a_webp_header_is_not_part_of_the_size():
    """Compares with RFC 6386: 14 bits of each side, and two for a scale."""
    sides = struct.pack("<HH", 0x4000 | 300, 0xC000 | 17)
    assert webp_size(b"RIFF" + bytes(4) + b"WEBPVP8 " + bytes(4 + 3 + 3) + sides) == (300, 17)


@pytest.mark.parametrize("kind", ["image/tiff", "application/octet-stream", "application/x-www-form-urlencoded"])
def test_content_types_of_an_image(serve, kind):
    """Also checks the content type that curl --data-binary sends."""
    assert serve().post(picture(), content_type=kind).status == 200


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tiff", ".webp"])
def test_supported_image_formats(serve, suffix):
    (result,) = serve().post(picture(40, 50, suffix)).json["results"]
    assert (result["height"], result["width"]) == (40, 50)
