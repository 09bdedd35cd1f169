"""The client for `resdet serve`."""

import json
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlencode, urlsplit

import numpy as np
import torch

from resdet.errors import DataError, Error, require
from resdet.images.address import is_image_address, path_of, read_address
from resdet.images.decode import as_image
from resdet.images.encode import encode_image
from resdet.images.inputs import images_in, is_single
from resdet.ops.rle import RLE
from resdet.results.classification import Classification
from resdet.results.result import Result

CONNECTIONS = {"http": HTTPConnection, "https": HTTPSConnection}
TIMEOUT = 60.0  # seconds
MOST_BYTES = 2**24  # maximum for several images in a request: half of the server's default limit
Source = str | Path | bytes | np.ndarray  # an image
File = tuple[str, bytes]  # name and content


def predict(
    url: str,
    images: Any,
    score: float | None = None,
    top: int | None = None,
    model: str | None = None,
    token: str | None = None,
    batch: int = 16,
    timeout: float = TIMEOUT,
) -> Any:
    """Returns the result of an image, or a list of results, from the server at `url`, such as http://host:8000.

    `images`: as in `resdet.load(...).predict`, or the bytes of an image file; pixels are sent as PNG. Results have the
    same types: `Result` or `Classification`. `score`, `top` and `model`: see the server's /docs. Several images are
    sent in requests of up to `batch` images and 16 MiB. `timeout`: seconds per request; within it, requests refused
    due to a full queue or a loading model are retried after the time that the server gives.
    """
    require(batch > 0, "batch", batch, "give the number of images of a request")
    if isinstance(images, bytes) or is_single(images):
        return predict(url, [images], score, top, model, token, batch, timeout)[0]
    options = {"score": score, "top": top, "model": model}
    query = urlencode({key: value for key, value in options.items() if value is not None})
    results: list[Any] = []
    address = Address(url, token, timeout)
    for group in groups(sources(images), batch):
        body, boundary = encode_form([file for _, file in group])
        entries = address.post(f"/v1/predict?{query}", body, f"multipart/form-data; boundary={boundary}")
        results += [result_of(entry, source) for entry, (source, _) in zip(entries, group)]
    return results


class Address:
    """The server's address and the settings of requests.

    Each request opens a new connection, since servers close connections that idle while the next images are read.
    """

    def __init__(self, url: str, token: str | None, timeout: float):
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            raise not_an_address(url) from None
        if parts.scheme not in CONNECTIONS or not parts.hostname:
            raise not_an_address(url)
        self.url, self.path = url, parts.path.rstrip("/")
        if token and not (token.isascii() and token.isprintable()):
            raise Error("The token has a line break or other characters than printable ASCII: give it without them.")
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.timeout, self.http = timeout, CONNECTIONS[parts.scheme](parts.hostname, port, timeout=timeout)

    def post(self, path: str, body: bytes, kind: str) -> list[dict[str, Any]]:
        """Returns the results of a request; retries if the response has a Retry-After header."""
        deadline = time.monotonic() + self.timeout
        while True:
            response, content = self.send(path, body, kind)
            wait = seconds_to_wait(response)
            if wait is None or time.monotonic() + wait > deadline:
                break
            time.sleep(wait)
        if response.status != 200:
            raise Error(f"{self.url} answered {response.status}: {sentence_of(content)}")
        try:
            results: list[dict[str, Any]] = json.loads(content)["results"]
        except (ValueError, TypeError, KeyError):
            raise Error(f"{self.url} is another server than `resdet serve`: check the address.") from None
        return results

    def send(self, path: str, body: bytes, kind: str) -> tuple[HTTPResponse, bytes]:
        """Sends a request; returns the response and its content."""
        try:
            with closing(self.http):
                self.http.connect()
                with suppress(ConnectionError):  # a server that refuses the body responds before reading all of it
                    self.http.request("POST", self.path + path, body, {**self.headers, "Content-Type": kind})
                response = self.http.getresponse()
                return response, response.read()
        except (OSError, HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise Error(f"{self.url} does not answer ({reason}): start `resdet serve`, or check the address.") from None


def seconds_to_wait(response: HTTPResponse) -> int | None:
    """Returns the seconds until a retry, at least 1; None if the server does not give them."""
    wait = response.headers.get("Retry-After", "")
    return max(int(wait), 1) if response.status == 503 and re.fullmatch("[0-9]{1,6}", wait) else None


def not_an_address(url: str) -> Error:
    return Error(f"{url!r} is not the address of a server: give one such as http://127.0.0.1:8000.")


def sentence_of(content: bytes) -> str:
    """Returns the error message of a response, which may come from a proxy."""
    try:
        return str(json.loads(content)["error"])
    except (ValueError, TypeError, KeyError):
        return "no error of resdet serve; a proxy may have sent it."


def sources(images: Any) -> Iterator[Source]:
    """Yields the images one by one; lists files without reading them."""
    if isinstance(images, bytes):
        yield images
    elif isinstance(images, Iterable) and not isinstance(images, (str, np.ndarray, torch.Tensor)):
        for image in images:
            yield from sources(image)
    else:
        yield from images_in(images)


def read(source: Source) -> File:
    if isinstance(source, bytes):
        return "", source
    if not isinstance(source, (str, Path)):
        return "", encode_image("pixels.png", as_image(source).decode())
    if isinstance(source, str) and is_image_address(source):
        return PurePosixPath(path_of(source)).name, read_address(source)
    try:
        return Path(source).name, Path(source).read_bytes()
    except OSError as error:
        raise DataError(f"{source}: cannot read the file ({error.strerror}); name an image file.") from None


def encode_form(files: Sequence[File]) -> tuple[bytes, str]:
    """Encodes a form with one file per (name, content); returns its body and boundary."""
    boundary = uuid.uuid4().hex
    parts = []
    for name, content in files:
        escaped = "".join(character for character in name if character.isprintable()).replace('"', "%22")
        head = f'Content-Disposition: form-data; name="image"; filename="{escaped}"'
        parts += [f"--{boundary}\r\n{head}\r\n\r\n".encode("utf-8", "replace"), content, b"\r\n"]
    return b"".join([*parts, f"--{boundary}--\r\n".encode()]), boundary


def result_of(entry: dict[str, Any], source: Source) -> Result | Classification:
    """Restores a result from the server's JSON."""
    image = None if isinstance(source, bytes) else source
    if "names" in entry:
        scores, labels = np.array(entry["scores"], np.float32), np.array(entry["labels"], np.int64)
        return Classification(labels, scores, entry["names"], image)
    detections = entry["detections"]
    names = list(detections[0].get("keypoints", ())) if detections else []
    points = [[each["keypoints"][name] for name in names] for each in detections] if "skeleton" in entry else None
    masked = all("segmentation" in each for each in detections)  # True also without detections
    rles: list[RLE] | None = [each["segmentation"] for each in detections] if masked else None
    return Result(
        boxes=np.array([each["box"] for each in detections], np.float32).reshape(-1, 4),
        scores=np.array([each["score"] for each in detections], np.float32),
        labels=np.array([each["label"] for each in detections], np.int64),
        names=[each["name"] for each in detections],
        category_ids=np.array([each["category_id"] for each in detections], np.int64),
        size=(entry["height"], entry["width"]),
        image=image,
        rles=rles,
        keypoints=None if points is None else np.array(points, np.float32).reshape(len(detections), len(names), 3),
        keypoint_names=names,
        skeleton=[(a, b) for a, b in entry.get("skeleton", ())],
    )


def groups(images: Iterable[Source], most: int) -> Iterator[list[tuple[Source, File]]]:
    """Yields groups of images with their files, up to `most` images and MOST_BYTES; a larger file is a group alone."""
    group: list[tuple[Source, File]] = []
    size = 0
    for image in images:
        file = read(image)
        if group and (len(group) == most or size + len(file[1]) > MOST_BYTES):
            yield group
            group, size = [], 0
        group.append((image, file))
        size += len(file[1])
    if group:
        yield group
