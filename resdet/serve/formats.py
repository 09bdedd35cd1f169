"""Response formats: JSON, entries of a COCO results file, CSV, or a drawn image."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from resdet.errors import FileError
from resdet.images.decode import EncodedImage
from resdet.images.encode import encode_image
from resdet.serve.limits import Refused

Results = Sequence[Any]  # one Result or Classification per image
Images = Sequence[EncodedImage]


@dataclass(frozen=True)
class Format:
    """A value of the parameter `format`."""

    media_type: str
    encode: Callable[[str, Results, Images], bytes]  # (name of the model, results, images)
    boxes: bool = False  # whether it requires results with boxes


def to_json(model: str, results: Results, images: Images) -> bytes:
    """Encodes {"model", "results"}: `to_dict` of each result, with the name of the image."""
    entries = [{**result.to_dict(), "image": image.name} for result, image in zip(results, images)]
    return json.dumps({"model": model, "results": entries}).encode()


def to_coco(model: str, results: Results, images: Images) -> bytes:
    """Encodes the entries of all images; `image_id` numbers the images of the request from 1."""
    return json.dumps([entry for number, result in enumerate(results, 1) for entry in result.to_coco(number)]).encode()


def to_csv(model: str, results: Results, images: Images) -> bytes:
    """Encodes a row per detection or class; the first column is the name of the image."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["image", *results[0].columns()])
    for result, image in zip(results, images):
        columns = [np.asarray(column).tolist() for column in result.columns().values()]
        writer.writerows([image.name, *row] for row in zip(*columns))
    return text.getvalue().encode()


def to_image(model: str, results: Results, images: Images) -> bytes:
    """Encodes the drawn image as JPEG."""
    if len(images) > 1:
        raise Refused(422, f"format=image takes one image, and the request has {len(images)}: send them one by one.")
    try:
        return encode_image("drawn.jpg", results[0].draw(images[0]))
    except FileError:
        raise Refused(422, f"{images[0].name} has a side too long for a JPEG file: send a smaller image.") from None


FORMATS = {
    "json": Format("application/json", to_json),
    "coco": Format("application/json", to_coco, boxes=True),
    "csv": Format("text/csv; charset=utf-8", to_csv),
    "image": Format("image/jpeg", to_image, boxes=True),
}
