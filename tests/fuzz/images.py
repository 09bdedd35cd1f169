"""Damaged image files of every supported format: header, size, decoding at all reductions, cropping and resizing."""

import io
import random
import struct
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from fuzz.cases import Broken, Case, Trial
from fuzz.damage import damage_bytes
from fuzz.image_edits import EDITS, exif
from PIL import Image

from resdet.detection.data.compile_annotations import size_of
from resdet.images.crops import center_crop, random_resized_crop, scale_jitter_crop
from resdet.images.decode import EncodedImage
from resdet.images.resize import resize

FILE = "image.bin"
LARGE = 1 << 22  # above this number of pixels, only the strongest reduction is decoded, to save time


@cache
def noise(height: int = 37, width: int = 50) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@cache
def valid() -> dict[str, list[bytes]]:
    """Returns small files of each format in the variants that encoders offer."""
    return {
        "jpeg": jpegs(),
        "png": pngs(),
        "bmp": bmps(),
        "gif": gifs(),
        "tiff": tiffs(),
        "webp": webps(),
        "other": others(),
    }


def by_opencv(ending: str, pixels: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(ending, pixels, options)[1].tobytes()


def by_pillow(form: str, mode: str = "RGB", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(noise()).convert(mode).save(file, form, **options)
    return file.getvalue()


def jpegs() -> list[bytes]:
    plain = by_opencv(".jpg", noise())
    turned = [plain[:2] + exif(order, orientation) + plain[2:] for order in "<>" for orientation in (3, 6, 8)]
    return [
        plain,
        by_opencv(".jpg", noise(), cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        by_opencv(".jpg", noise(), cv2.IMWRITE_JPEG_RST_INTERVAL, 1),
        by_opencv(".jpg", noise()[:, :, 0]),
        by_opencv(".jpg", noise(3, 1)),
        by_pillow("JPEG", "CMYK"),
        by_pillow("JPEG", subsampling=0, comment=b"a comment"),
        *turned,
    ]


def pngs() -> list[bytes]:
    deep = noise().astype(np.uint16) * 257
    alpha = np.dstack([noise(), noise()[:, :, 0]])
    return [
        by_opencv(".png", noise()),
        by_opencv(".png", noise()[:, :, 0]),
        by_opencv(".png", deep),
        by_opencv(".png", alpha),
        by_pillow("PNG", "P"),
        by_pillow("PNG", "1"),
        by_pillow("PNG", "LA"),
        by_pillow("PNG", exif=exif("<", 6)[4:]),
    ]


def bmps() -> list[bytes]:
    plain = by_opencv(".bmp", noise())
    upside_down = plain[:22] + struct.pack("<i", -37) + plain[26:]
    old = struct.pack("<2sIHHIIHHHH", b"BM", 26 + 37 * 152, 0, 0, 26, 12, 50, 37, 1, 24) + plain[54:]
    return [plain, upside_down, old, by_opencv(".bmp", noise()[:, :, 0]), by_pillow("BMP", "P"), by_pillow("BMP", "1")]


def gifs() -> list[bytes]:
    frames = [Image.fromarray(np.roll(noise(), shift, 0)).convert("P") for shift in (3, 9)]
    moving = io.BytesIO()
    frames[0].save(moving, "GIF", save_all=True, append_images=frames[1:], duration=10, transparency=0)
    return [by_pillow("GIF", "P"), by_pillow("GIF", "L"), by_pillow("GIF", "P", interlace=1), moving.getvalue()]


def tiffs() -> list[bytes]:
    compressions = ("raw", "tiff_lzw", "packbits", "tiff_adobe_deflate", "jpeg")
    made = [by_pillow("TIFF", compression=name) for name in compressions]
    wide = [by_opencv(".tiff", noise().astype(np.uint16) * 257), by_opencv(".tiff", noise().astype(np.float32))]
    return [
        *made,
        *wide,
        by_pillow("TIFF", "1", compression="group4"),
        by_pillow("TIFF", "L"),
        by_pillow("TIFF", "CMYK"),
    ]


def webps() -> list[bytes]:
    frames = [Image.fromarray(np.roll(noise(), shift, 0)) for shift in (3, 9)]
    moving = io.BytesIO()
    frames[0].save(moving, "WEBP", save_all=True, append_images=frames[1:], duration=10)
    return [
        by_pillow("WEBP"),
        by_pillow("WEBP", lossless=True),
        by_pillow("WEBP", "RGBA"),
        by_pillow("WEBP", exif=exif("<", 6)[4:]),
        moving.getvalue(),
    ]


def others() -> list[bytes]:
    """Returns files of other formats of OpenCV, and data that is not an image."""
    endings = (".ppm", ".pgm", ".pbm", ".pnm", ".pam", ".hdr", ".ras", ".pfm", ".avif", ".jp2")
    made = []
    for ending in endings:
        pixels = noise()[:32, :32]
        pixels = pixels.astype(np.float32) if ending in (".hdr", ".pfm") else pixels
        pixels = pixels[:, :, 0] if ending in (".pgm", ".pbm") else pixels
        try:
            made.append(by_opencv(ending, np.ascontiguousarray(pixels)))
        except cv2.error:
            continue  # not supported by this build
    return [
        *made,
        b"P6 4294967295 1 255\n",
        b"P3\n2 2\n255\n" + b"9" * 400,
        b"<svg/>",
        b"\x00" * 100,
        b"%PDF-1.4",
        b"GIF8",
    ]


def make_case(rng: random.Random) -> Case:
    form = rng.choice(["jpeg"] * 4 + ["png"] * 3 + ["bmp", "gif", "tiff", "tiff", "webp", "other"])
    data = rng.choice(valid()[form])
    draw = rng.random()
    if draw < 0.6 and form in EDITS:
        data = EDITS[form](rng, data)
    if draw > 0.55:
        data = damage_bytes(rng, data, near=rng.choice([64, None, None]))
    if rng.random() < 0.03:
        other = rng.choice(valid()[rng.choice(sorted(valid()))])
        at = rng.randrange(len(data) + 1)
        data = rng.choice([data[:at] + other[at:], other + data, data + other, data[:at] + other + data[at:]])
    seen = [rng.choice([(50, 37), (37, 50), (1, 1), (25, 19)]), rng.randrange(1000)]
    return Case({FILE: data}, {"annotated": seen[0], "seed": seen[1]})


def run_case(folder: Path, options: dict[str, Any], trial: Trial) -> None:
    data, name = (folder / FILE).read_bytes(), str(folder / FILE)
    size = trial.attempt(lambda: EncodedImage(data, name).size)
    assert size_of(folder / FILE) == size
    turned = trial.attempt(lambda: EncodedImage(data, name).as_annotated(options["annotated"]))
    if turned is not None:
        assert turned.size == options["annotated"] or turned.size == size
    if size is None:
        trial.attempt(EncodedImage(data, name).decode)
        return
    large = size[0] * size[1] > LARGE
    for reduction in (8,) if large else (1, 2, 4, 8):
        smallest = tuple(-(-side // reduction) for side in size)
        check(trial.attempt(EncodedImage(data, name).decode, smallest), size, reduction)
    if large:
        return
    check(trial.attempt(EncodedImage(data, name).decode), size, 1)
    if turned is not None:
        check(trial.attempt(turned.decode), turned.size, 1)
    rng = np.random.default_rng(options["seed"])
    trial.attempt(center_crop, EncodedImage(data, name), 32, 24)
    trial.attempt(scale_jitter_crop, EncodedImage(data, name), rng, 24, (32, 48))
    trial.attempt(random_resized_crop, EncodedImage(data, name), rng, 24)
    for style in ("opencv", "pillow", "torchvision"):
        trial.attempt(resize, EncodedImage(data, name), 32, 48, style)


def check(pixels: Any, size: tuple[int, int], reduction: int) -> None:
    """Checks that the decoded size is that of the header, or a reduction as libjpeg computes it."""
    if pixels is None:
        return
    allowed = {tuple(-(-side // n) for side in size) for n in (1, 2, 4, 8) if n <= reduction}
    if pixels.dtype != np.uint8 or pixels.shape[2:] != (3,) or pixels.shape[1::-1] not in allowed:
        raise Broken(f"the size is {size}, decoded {pixels.dtype} {list(pixels.shape)}")
