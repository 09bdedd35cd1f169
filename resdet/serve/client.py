"""The client of a server of `resdet serve`."""

import json
import uuid
from collections.abc import Iterator, Sequence
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

import numpy as np

from resdet.errors import DataError, Error
from resdet.files.atomic import encode_image
from resdet.ops.rle import RLE
from resdet.results.classification import Classification
from resdet.results.result import Result

CONNECTIONS = {"http": HTTPConnection, "https": HTTPSConnection}
TIMEOUT = 60.0  # seconds
Source = str | Path | bytes | np.ndarray
T = TypeVar("T")


def predict(
    url: str,
    images: Source | Sequence[Source],
    score: float | None = None,
    top: int | None = None,
    model: str | None = None,
    token: str | None = None,
    batch: int = 16,
    timeout: float = TIMEOUT,
) -> Any:
    """The result of an image, or the list of those of several, from the server at `url`, such as http://host:8000.

    An image is a path, the bytes of an image file, or uint8 RGB pixels [H, W, 3], which are sent as PNG. Results are of
    the classes that `resdet.load(...).predict` returns: `Result`, or `Classification`. `score`, `top` and `model`: see
    the server's /docs. Several images are sent in requests of `batch`; `timeout`: seconds for each.
    """
    if isinstance(images, (str, Path, bytes, np.ndarray)):
        return predict(url, [images], score, top, model, token, batch, timeout)[0]
    options = {"score": score, "top": top, "model": model}
    query = urlencode({key: value for key, value in options.items() if value is not None})
    results: list[Any] = []
    with Connection(url, token, timeout) as connection:
        for group in groups(images, batch):
            body, boundary = encode_form([read(source) for source in group])
            content = connection.post(f"/v1/predict?{query}", body, f"multipart/form-data; boundary={boundary}")
            results += [result_of(entry, source) for entry, source in zip(content["results"], group)]
    return results


class Connection:
    """A connection that is kept for several requests."""

    def __init__(self, url: str, token: str | None, timeout: float):
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            raise not_an_address(url) from None
        if parts.scheme not in CONNECTIONS or not parts.hostname:
            raise not_an_address(url)
        self.url, self.path = url, parts.path.rstrip("/")
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.http = CONNECTIONS[parts.scheme](parts.hostname, port, timeout=timeout)

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: Any) -> None:
        self.http.close()

    def post(self, path: str, body: bytes, kind: str) -> dict[str, Any]:
        """The JSON of a response with status 200."""
        try:
            self.http.request("POST", self.path + path, body, {**self.headers, "Content-Type": kind})
            response = self.http.getresponse()
            content = response.read()
        except (OSError, HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise Error(f"{self.url} does not answer ({reason}): start `resdet serve`, or check the address.") from None
        if response.status != 200:
            raise Error(f"{self.url} answered {response.status}: {sentence_of(content)}")
        answer: dict[str, Any] = json.loads(content)
        return answer


def not_an_address(url: str) -> Error:
    return Error(f"{url!r} is no address of a server: give one such as http://127.0.0.1:8000.")


def sentence_of(content: bytes) -> str:
    """The error of a response, which a proxy may have written."""
    try:
        return str(json.loads(content)["error"])
    except (ValueError, TypeError, KeyError):
        return "no sentence of resdet serve; a proxy may have written it."


def read(source: Any) -> tuple[str, bytes]:
    """The name and the bytes of an image file."""
    if isinstance(source, bytes):
        return "", source
    if isinstance(source, np.ndarray):
        return "", encode_image("pixels.png", source)
    try:
        return Path(source).name, Path(source).read_bytes()
    except OSError as error:
        raise DataError(f"{source}: cannot read the file ({error.strerror}); name an image file.") from None


def encode_form(files: Sequence[tuple[str, bytes]]) -> tuple[bytes, str]:
    """The body of a form with a file for each (name, content), and its boundary."""
    boundary = uuid.uuid4().hex
    parts = []
    for name, content in files:
        escaped = "".join(character for character in name if character.isprintable()).replace('"', "%22")
        head = f'Content-Disposition: form-data; name="image"; filename="{escaped}"'
        parts += [f"--{boundary}\r\n{head}\r\n\r\n".encode("utf-8", "replace"), content, b"\r\n"]
    return b"".join([*parts, f"--{boundary}--\r\n".encode()]), boundary


def result_of(entry: dict[str, Any], source: Source) -> Result | Classification:
    """The result that the server turned into JSON."""
    image = None if isinstance(source, bytes) else source
    if "names" in entry:
        scores, labels = np.array(entry["scores"], np.float32), np.array(entry["labels"], np.int64)
        return Classification(labels, scores, entry["names"], image)
    detections = entry["detections"]
    names = list(detections[0].get("keypoints", ())) if detections else []
    points = [[each["keypoints"][name] for name in names] for each in detections] if "skeleton" in entry else None
    rles: list[RLE] | None = [each["segmentation"] for each in detections] if has_masks(detections) else None
    return Result(
        boxes=np.array([each["box"] for each in detections], np.float32).reshape(-1, 4),
        scores=np.array([each["score"] for each in detections], np.float32),
        labels=np.array([each["label"] for each in detections], np.int64),
        names=[each["name"] for each in detections],
        category_ids=np.array([each["category_id"] for each in detections], np.int64),
        size=(entry["height"], entry["width"]),
        image=image,
        rles=rles,
        keypoints=None if points is None else np.array(points, np.float32).reshape(len(detections), -1, 3),
        keypoint_names=names,
        skeleton=[(a, b) for a, b in entry.get("skeleton", ())],
    )


def has_masks(detections: Sequence[dict[str, Any]]) -> bool:
    return any("segmentation" in each for each in detections)


def groups(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
