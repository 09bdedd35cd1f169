"""Reads the images of a request within the limits, and checks their headers before decoding."""

import asyncio
import struct
import time
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from resdet.errors import DataError
from resdet.images.decode import EncodedImage
from resdet.serve.limits import CLIENT_LEFT, Limits, Refused

MULTIPART = "multipart/form-data"
# Content types of a body with one image; clients that do not know the type, such as curl, send the last two.
SINGLE = ("image/", "application/octet-stream", "application/x-www-form-urlencoded")
TAIL = 8  # bytes
LONGEST_NAME = 200  # characters


async def read_uploads(request: Request, limits: Limits, admit: Callable[[int], None]) -> list[EncodedImage]:
    """Reads the images of a body, one image or a form; calls `admit` with the number of images beyond the first."""
    kind = request.headers.get("content-type", SINGLE[1]).lower()
    if not kind.startswith((MULTIPART, *SINGLE)):
        raise Refused(415, f"The content type {kind} is not an image: send image/jpeg, image/png, … or {MULTIPART}.")
    if int(request.headers.get("content-length", 0)) > limits.max_bytes:
        raise too_large(limits)
    receive = LimitedReceive(request.receive, limits)
    limited = Request(request.scope, receive)
    if not kind.startswith(MULTIPART):
        return [EncodedImage(await limited.body(), name_of(None, 1))]
    images = await read_form(limited, limits, admit)
    if not receive.tail.rstrip().endswith(b"--"):
        raise Refused(400, "The form ends before its last boundary: send all of it.")
    return images


class LimitedReceive:
    """ASGI's receive, which refuses bodies that are too large, too slow or aborted."""

    def __init__(self, receive: Callable[[], Any], limits: Limits):
        self.receive, self.limits, self.count = receive, limits, 0
        self.deadline = time.monotonic() + limits.body_timeout
        self.tail = b""  # last bytes

    async def __call__(self) -> Any:
        try:
            message = await asyncio.wait_for(self.receive(), self.deadline - time.monotonic())
        except asyncio.TimeoutError:
            sentence = f"The body did not arrive within {self.limits.body_timeout:g} seconds: send it faster."
            raise Refused(408, sentence, Connection="close") from None
        if message["type"] == "http.disconnect":
            raise Refused(CLIENT_LEFT, "The client disconnected before the end of the body.")
        body = message.get("body", b"")
        self.count += len(body)
        self.tail = (self.tail + body[-TAIL:])[-TAIL:]
        if self.count > self.limits.max_bytes:
            raise too_large(self.limits)
        return message


def too_large(limits: Limits) -> Refused:
    return Refused(413, f"The body exceeds {limits.max_bytes} bytes: send fewer or smaller images.", Connection="close")


async def read_form(request: Request, limits: Limits, admit: Callable[[int], None]) -> list[EncodedImage]:
    """Reads the files of a form, regardless of their field names."""
    try:
        form = await request.form(max_files=limits.form_images, max_fields=0)
    except HTTPException as error:
        raise Refused(400, f"The form is invalid: {error.detail.rstrip('.')}.", Connection="close") from None
    try:
        files = [file for _, file in form.multi_items() if isinstance(file, UploadFile)]
        if not files:
            raise Refused(422, "The form has no files: send each image as a file of the form.")
        admit(len(files) - 1)
        contents = [await file.read() for file in files]
    finally:
        await form.close()
    return [EncodedImage(data, name_of(file.filename, n)) for n, (data, file) in enumerate(zip(contents, files), 1)]


def name_of(filename: str | None, number: int) -> str:
    """Returns the file name without folders and control characters; it is never used as a path."""
    name = PurePosixPath((filename or "").replace("\\", "/")).name
    return "".join(character for character in name if character.isprintable())[:LONGEST_NAME] or f"image {number}"


def check_header(image: EncodedImage, limits: Limits) -> None:
    """Refuses files that are not images, declare too many pixels, or are truncated."""
    size = declared_size(image)
    if size is None:
        raise Refused(422, f"{image.name} is not an image: send a JPEG, PNG, WebP, BMP, GIF or TIFF file.")
    width, height = size
    if width * height > limits.max_pixels:
        sentence = f"{image.name} has {width} x {height} pixels, more than {limits.max_pixels}: send a smaller image."
        raise Refused(413, sentence)
    try:
        _ = image.size
    except DataError as error:
        raise unusable(error) from None


def unusable(error: DataError) -> Refused:
    """Returns the refusal of a damaged image."""
    return Refused(422, f"{str(error).rstrip('.')}: send a whole image.")


def declared_size(image: EncodedImage) -> tuple[int, int] | None:
    """Reads (width, height) as stored from the header; None for formats without it there, and for other files."""
    header = image.declared
    return (header.width, header.height) if header else webp_size(bytes(image.data[:30]))


def webp_size(head: bytes) -> tuple[int, int] | None:
    """Reads (width, height) of a WebP file from its first 30 bytes; None for other files."""
    if len(head) < 30 or head[:4] != b"RIFF" or head[8:12] != b"WEBP":
        return None
    chunk = head[12:16]
    if chunk == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if chunk == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 ":
        width, height = struct.unpack("<HH", head[26:30])
        return width & 0x3FFF, height & 0x3FFF
    return None
