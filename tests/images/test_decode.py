"""Tests image decoding against Pillow, and the errors of damaged images."""

import io
import struct
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from resdet.errors import DataError
from resdet.images.decode import EncodedImage, RawImage

SHARED = Path(__file__).resolve().parents[3] / "shared/data"


def picture(width: int = 320, height: int = 200) -> Image.Image:
    """Returns a smooth image with a little noise, similar to a photograph."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 8, 3), dtype=np.uint8)).resize((width, height), Image.BICUBIC)
    noise = rng.normal(0, 4, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(coarse) + noise, 0, 255).astype(np.uint8))


def encode(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def pillow(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


JPEG = encode(picture(), "JPEG", quality=90)
PNG = encode(picture(), "PNG")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM"])
def test_size_and_pixels_agree_with_pillow(format):
    data = encode(picture(), format)
    image = EncodedImage(data, "a")
    assert image.size == (320, 200)
    pixels = image.decode()
    assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous and pixels.shape == (200, 320, 3)
    assert np.abs(pixels - pillow(data)).mean() < (1 if format in ("JPEG", "WEBP") else 1e-9)


@pytest.mark.parametrize(
    "format, options",
    [
        ("PNG", {}),
        ("WEBP", {"lossless": True, "exact": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
def test_colors_do_not_depend_on_alpha(format, options):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format, **options)
    assert np.array_equal(EncodedImage(stream.getvalue(), "a").decode(), pixels[..., :3])


def test_size_of_a_gif_which_old_opencv_cannot_decode():
    assert EncodedImage(encode(picture(), "GIF"), "a").size == (320, 200)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_exif_orientation_is_applied_as_pillow_does(format, orientation):
    data = encode(picture(), format, exif=exif(orientation))
    reference = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    image = EncodedImage(data, "a")
    pixels = image.decode()
    assert image.size == reference.size and pixels.flags.c_contiguous
    assert np.abs(pixels - np.asarray(reference).astype(int)).mean() < 1
    smaller = np.asarray(reference.resize((reference.width // 2, reference.height // 2), Image.BOX)).astype(int)
    if format == "JPEG":
        assert np.abs(image.decode((100, 100)) - smaller).mean() < 2


@pytest.mark.parametrize("width, height", [(1, 1), (1, 9), (9, 1)])
def test_a_mirrored_line_has_positive_strides(width, height):
    pixels = EncodedImage(encode(picture(width, height), "PNG", exif=exif(3)), "a").decode()
    assert min(pixels.strides) > 0


def test_a_tiff_with_two_widths_has_the_first():
    data = bytearray(encode(picture(), "TIFF"))
    (directory,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, directory)
    last = directory + 2 + 12 * (count - 1)
    data[last : last + 12] = struct.pack("<HHII", 256, 4, 1, 27)
    image = EncodedImage(bytes(data), "a")
    assert image.size == (320, 200) == image.decode().shape[1::-1]


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_as_annotated_returns_the_stored_image_if_its_size_fits(format, orientation):
    """Checks that EXIF rotation is ignored if only the stored size fits, and compares pixels with Pillow."""
    data = encode(picture(), format, exif=exif(orientation))
    image = EncodedImage(data, "a")
    assert image.as_annotated(image.size) is image and image.as_annotated((640, 400)) is image
    stored = image.as_annotated((320, 200))
    assert stored.size == (320, 200) and stored.name == "a"
    shown = ImageOps.exif_transpose(Image.open(io.BytesIO(data))) if orientation == 3 else Image.open(io.BytesIO(data))
    assert np.abs(stored.decode() - np.asarray(shown).astype(int)).mean() < 1
    assert stored.decode((100, 100)).shape == ((100, 160, 3) if format == "JPEG" else (200, 320, 3))


@pytest.mark.parametrize("format", ["WEBP", "TIFF"])
def test_size_matches_the_pixels_of_rotated_images(format):
    image = EncodedImage(encode(picture(), format, exif=exif(6)), "a")
    assert image.decode().shape[1::-1] == image.size


@pytest.mark.parametrize(
    "before",
    [
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>"),  # XMP has the marker of EXIF
        segment(0xE1, b"Exif\0\0MM\0*\0\0\xff\xff broken"),  # the offset points outside the segment
        segment(0xED, b"Photoshop 3.0\0" + JPEG[:3000]),  # a thumbnail with a frame
        b"\xff\xff\xff",  # fill bytes
    ],
    ids=["xmp", "broken exif", "thumbnail", "fill"],
)
def test_segments_before_the_frame_are_skipped(before):
    image = EncodedImage(JPEG[:2] + before + JPEG[2:], "a")
    assert image.size == (320, 200)
    assert np.abs(image.decode() - pillow(JPEG)).mean() < 1


def test_exif_after_xmp_is_found():
    rotated = encode(picture(), "JPEG", exif=exif(6))
    image = EncodedImage(rotated[:2] + segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>") + rotated[2:], "a")
    assert image.size == (200, 320) == image.decode().shape[1::-1]


def test_png_orientation_after_the_pixels():
    tags = exif(6).tobytes().removeprefix(b"Exif\0\0")
    image = EncodedImage(PNG[:-12] + chunk(b"eXIf", tags) + PNG[-12:], "a")
    assert image.decode().shape[1::-1] == image.size == (200, 320)


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "RGBA"])
def test_png_modes_become_rgb_without_alpha(mode):
    converted = picture().quantize(32) if mode == "P" else picture().convert(mode)
    if mode == "RGBA":
        converted.putalpha(Image.linear_gradient("L").resize(converted.size))
    pixels = EncodedImage(encode(converted, "PNG"), "a").decode()
    assert np.array_equal(pixels, np.asarray(converted.convert("RGB")))


def test_16_bit_png_is_scaled():
    values = np.linspace(0, 65535, 60 * 40).astype(np.uint16).reshape(40, 60)
    pixels = EncodedImage(encode(Image.fromarray(values), "PNG"), "a").decode()
    assert np.abs(pixels - values[..., None] / 257).max() <= 1


def test_cmyk_jpeg():
    data = encode(picture().convert("CMYK"), "JPEG", quality=95)
    assert np.abs(EncodedImage(data, "a").decode() - pillow(data)).mean() < 2


def test_the_format_is_detected_from_the_content():
    assert np.array_equal(EncodedImage(PNG, "n02105855_2933.JPEG").decode(), pillow(PNG))


@pytest.mark.parametrize(
    "smallest, expected",
    [
        ((320, 200), (320, 200)),
        ((161, 100), (320, 200)),
        ((160, 100), (160, 100)),
        ((80, 51), (160, 100)),
        ((80, 50), (80, 50)),
        ((40, 25), (40, 25)),
        ((1, 1), (40, 25)),
        ((500, 500), (320, 200)),
    ],
)
def test_reduced_decoding_takes_the_smallest_sufficient_scale(smallest, expected):
    pixels = EncodedImage(JPEG, "a").decode(smallest)
    assert pixels.shape[1::-1] == expected
    reference = Image.open(io.BytesIO(JPEG)).resize(expected, Image.BOX)
    assert np.abs(pixels - np.asarray(reference).astype(int)).mean() < 2


def test_reduced_decoding_rounds_up_and_applies_exif():
    data = encode(picture(321, 201), "JPEG", exif=exif(6))
    assert EncodedImage(data, "a").decode((101, 161)).shape == (161, 101, 3)
    assert EncodedImage(data, "a").decode((102, 161)).shape == (321, 201, 3)


@pytest.mark.parametrize(
    "data, what",
    [
        (b"", "empty"),
        (b"<html>404 not found</html>", "not an image"),
        (JPEG[:100], "is truncated"),
        (JPEG[: len(JPEG) // 2], "is truncated"),
        (JPEG[:-2], "is truncated"),
        (encode(picture(), "JPEG", progressive=True)[:-50], "is truncated"),
        (JPEG[:2] + segment(0xED, JPEG[:3000] + b"\xff\xd9") + JPEG[2:9000], "is truncated"),
        (JPEG[:2] + segment(0xED, JPEG[:3000] + b"\xff\xd9"), "is truncated"),
        (PNG[:20], "is truncated"),
        (PNG[: len(PNG) // 2], "is truncated"),
        (PNG[:-1], "is truncated"),
        (PNG[:500] + b"damage" + PNG[506:], "not an image"),
        (b"BM" + bytes(10), "is truncated"),
        (PNG[:8] + chunk(b"IHDR", struct.pack(">II5B", 2**14, 2**14, 8, 2, 0, 0, 0)) + PNG[33:], "16384x16384"),
        (
            JPEG[:2]
            + segment(0xC0, struct.pack(">BHHB", 8, 65500, 65500, 3) + bytes(9))
            + segment(0xDA, b"\0")
            + JPEG[-2:],
            "65500x65500",
        ),
        (b"BM" + bytes(12) + struct.pack("<Iii", 40, 2**20, -(2**20)) + bytes(30), "1048576x1048576"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value,
)
def test_damaged_images_raise_a_one_line_error(data, what):
    image = EncodedImage(data, "train/dog/a.jpg")
    with pytest.raises(DataError, match=rf"^train/dog/a.jpg .*{what}[^:]*\.$") as caught:
        image.decode()
    told = str(caught.value.in_data_set())
    assert told == f"{str(caught.value)[:-1]}: delete it or set data.on_bad_image=skip."


def test_data_after_the_end_are_ignored():
    for tail in (b"junk" * 100, JPEG[:3000]):
        assert np.array_equal(EncodedImage(JPEG + tail, "a").decode(), EncodedImage(JPEG, "a").decode())


def test_random_damage_raises_only_data_errors(capfd):
    rng = np.random.default_rng(1)
    for data in (JPEG, PNG, encode(picture(), "TIFF"), encode(picture(), "GIF"), encode(picture(), "BMP")):
        for _ in range(40):
            broken = bytearray(data[: rng.integers(1, len(data))] if rng.random() < 0.3 else data)
            for position in rng.integers(0, min(len(broken), 400), 5):
                broken[position] = rng.integers(256)
            try:
                width, height = EncodedImage(bytes(broken), "a").size
                assert width * height < 2**28
                EncodedImage(bytes(broken), "a").decode((30, 30))
            except DataError:
                pass


def test_raw_image():
    pixels = np.asarray(picture()).transpose(2, 0, 1).copy().transpose(1, 2, 0)  # a view that is not contiguous
    image = RawImage(pixels, "cifar:0")
    assert image.size == (320, 200)
    decoded = image.decode((10, 10))
    assert decoded.flags.c_contiguous and np.array_equal(decoded, pixels)
    decoded[:] = 0
    assert pixels.any()
    with pytest.raises(DataError, match="cifar:0 is float64"):
        RawImage(pixels / 255, "cifar:0")


def test_overhead_is_small_compared_with_decoding():
    data = encode(picture(500, 375), "JPEG", quality=90)

    def fastest(function) -> float:
        times = []
        for _ in range(30):
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
        return min(times)

    ours = fastest(lambda: EncodedImage(data, "a").decode())
    bare = fastest(lambda: cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), 1), cv2.COLOR_BGR2RGB))
    assert ours < 1.5 * bare


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared photographs are not beside this repository")
def test_shared_photographs_have_pillows_size():
    files = [file for suffix in ("jpg", "jpeg", "png") for file in sorted(SHARED.rglob(f"*.{suffix}"))[:60]]
    for file in files:
        image = EncodedImage(file.read_bytes(), file.name)
        with Image.open(file) as reference:
            expected = reference.size
            turned = reference.getexif().get(0x0112, 1) >= 5
        assert image.size == (expected[::-1] if turned else expected)
        assert image.decode().shape[1::-1] == image.size
