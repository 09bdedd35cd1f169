"""Run-length encodings compared with pycocotools, and damaged ones with a plain decoder."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from resdet.detection.data import rle

HEIGHT, WIDTH = 23, 31


def bitmaps(count: int) -> np.ndarray:
    """Makes uint8 [count, HEIGHT, WIDTH] bitmaps of many or few pieces, some empty, some full."""
    rng = np.random.default_rng(0)
    shares = rng.choice([0, 0.02, 0.3, 0.5, 0.98, 1], count)
    return (rng.random((count, HEIGHT, WIDTH)) < shares[:, None, None]).astype(np.uint8)


def texts(count: int) -> list[bytes]:
    return [coco_mask.encode(np.asfortranarray(bitmap))["counts"] for bitmap in bitmaps(count)]


def decoded(text: bytes) -> list[int] | None:
    """Decodes the runs character by character, as the format is defined; returns None for invalid text."""
    runs, value, bits = [], 0, 0
    for character in text:
        code = character - 48
        if not 0 <= code < 64 or bits >= 30:
            return None
        value |= (code & 31) << bits
        bits += 5
        if not code & 32:
            value -= 1 << bits if code & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = bits = 0
    return runs if runs and not bits else None


def test_runs_equal_the_pixels():
    runs, starts = rle.decompress(texts(200))
    for bitmap, start, end in zip(bitmaps(200), starts, starts[1:]):
        pixels = np.repeat(np.arange(end - start) % 2, runs[start:end])
        assert np.array_equal(pixels, bitmap.T.ravel())


def test_no_masks():
    runs, starts = rle.decompress([])
    assert len(runs) == 0 and starts.tolist() == [0]
    assert rle.all_fit([], np.zeros(0)) and rle.problems_of([], []) == []


def test_damaged_text_is_detected_as_by_the_plain_decoder():
    """Replaces, removes and doubles each character."""
    spoilt = []
    for text in texts(12):
        for place in range(len(text)):
            spoilt += [text[:place] + text[place + 1 :], text[: place + 1] + text[place:]]
            spoilt += [text[:place] + bytes([other]) + text[place + 1 :] for other in (0, 47, 48, 63, 79, 80, 111, 112)]
    masks = [{"size": [HEIGHT, WIDTH], "counts": text} for text in spoilt]
    problems = rle.problems_of(masks, [(HEIGHT, WIDTH)] * len(masks))
    sound = 0
    for text, problem in zip(spoilt, problems):
        runs = decoded(text)
        whole = runs is not None and min(runs) >= 0 and sum(runs) == HEIGHT * WIDTH
        assert (problem is None) == whole, text
        sound += whole
    assert 0 < sound < len(spoilt) / 10


@pytest.mark.parametrize("form", [bytes, bytes.decode, list])
def test_forms_of_counts(form):
    counts = coco_mask.encode(np.asfortranarray(bitmaps(4)[3]))["counts"]
    given = rle.decompress([counts])[0].tolist() if form is list else form(counts)
    runs, starts, problems = rle.runs_of([{"size": (HEIGHT, WIDTH), "counts": given}], [(HEIGHT, WIDTH)])
    assert problems == [None] and runs.tolist() == decoded(counts) and starts.tolist() == [0, len(runs)]


def test_more_masks_than_a_chunk(monkeypatch):
    monkeypatch.setattr(rle, "CHUNK", 7)
    counts, pixels = texts(30), np.full(30, HEIGHT * WIDTH)
    assert rle.all_fit(counts, pixels)
    masks = [{"size": [HEIGHT, WIDTH], "counts": text} for text in counts]
    for place in (0, 6, 7, 29):
        spoilt = [*counts[:place], counts[place] + b"1", *counts[place + 1 :]]
        assert not rle.all_fit(spoilt, pixels)
        masks[place]["counts"] = spoilt[place]
        problems = rle.problems_of(masks, [(HEIGHT, WIDTH)] * 30)
        assert problems == [rle.DAMAGED if number == place else None for number in range(30)]
        masks[place]["counts"] = counts[place]


def test_a_long_number_does_not_fit():
    assert not rle.all_fit([b"o" * 10**6 + b"0"], np.array([20]))


def test_runs_of_large_images():
    counts = [30_000_000, 1, 5_999_999]
    rle_of_a_dot = coco_mask.frPyObjects({"size": [6000, 6000], "counts": counts}, 6000, 6000)
    assert rle.decompress([rle_of_a_dot["counts"]])[0].tolist() == counts
