"""Inputs of `predict`: files, folders, globs, videos, cameras, arrays, tensors, PIL images, and iterables of them."""

import glob
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from resdet.errors import DataError
from resdet.files.storage import is_address
from resdet.files.tar_member import member_of
from resdet.images.decode import EncodedImage, RawImage
from resdet.images.image_files import images_of
from resdet.images.video import Video, is_stream, is_video
from resdet.optional import required

READ_AHEAD = (str, Path, np.ndarray, torch.Tensor, Sequence)
R = TypeVar("R")


class Inputs:
    """The images in an input of `predict`, each read when it is reached."""

    def __init__(self, inputs: Any):
        self.inputs = inputs

    def __iter__(self) -> Iterator[Any]:
        return images_in(self.inputs)


def predict_all(
    predict: Callable[[Iterable[Any]], Iterator[R]], inputs: Any, stream: bool
) -> R | list[R] | Iterator[R]:
    """Returns the result of a single image, a list for several, or with `stream` a generator.

    `predict` is called with `Inputs`, which may be read ahead, for files, arrays, tensors and sequences, else with an
    iterator.
    """
    images = Inputs(inputs) if isinstance(inputs, READ_AHEAD) or is_single(inputs) else images_in(inputs)
    if stream:
        return predict(images)
    results = list(predict(images))
    return results[0] if is_single(inputs) else results


def is_single(inputs: Any) -> bool:
    """Whether the input is one image, and not a folder, a glob, a video, a batch or another iterable."""
    if isinstance(inputs, (str, Path)):
        return not (Path(inputs).is_dir() or is_video(inputs) or is_glob(inputs))
    if isinstance(inputs, (np.ndarray, torch.Tensor)):
        return inputs.ndim == 3
    return is_pil(inputs) or isinstance(inputs, (EncodedImage, RawImage))


def images_in(inputs: Any) -> Iterator[Any]:
    """Yields the images one by one, as paths or uint8 RGB arrays [H, W, 3]; files are listed, but not read."""
    match inputs:
        case str() | Path():
            yield from files_in(inputs)
        case torch.Tensor():
            yield from map(pixels_of, inputs if inputs.ndim == 4 else [inputs])
        case EncodedImage() | RawImage():
            yield inputs
        case np.ndarray() if inputs.ndim != 4:
            yield inputs
        case _ if is_pil(inputs):
            yield pil_pixels(inputs)
        case Iterable() if not isinstance(inputs, bytes):
            for entry in inputs:
                yield from images_in(entry)
        case _:
            raise DataError(f"{type(inputs).__name__} is not an image: give a path, an array, a tensor or a PIL image.")


def files_in(path: str | Path) -> Iterator[Any]:
    """Yields a file, the images of a folder, the matches of a glob, or the frames of a video, a camera or a stream."""
    paths: list[str | Path]
    if Path(path).is_dir():
        paths = [*images_of(path)]
    elif is_glob(path):
        paths = [Path(name) for name in sorted(glob.glob(str(path), recursive=True)) if not Path(name).is_dir()]
    elif is_video(path):
        video = Video(path)
        yield from (frame.pixels for frame in video)
        if loss := video.loss():
            warnings.warn(loss, stacklevel=2)
        return
    else:
        paths = [path]
    if not paths:
        raise DataError(f"{path}: no image there; give another folder or pattern, or the files.")
    yield from paths


def expanded(names: Iterable[str]) -> list[str]:
    """Returns the names of files, folders, streams and addresses; each glob is replaced by its sorted matches.

    Raises a DataError for a name without a file, and for a glob without a match.
    """
    found: list[str] = []
    for name in names:
        matches = sorted(glob.glob(name, recursive=True)) if is_glob(name) else [name]
        if not matches:
            raise DataError(f"{name} matches no file: give another pattern, or the files.")
        found += matches
    absent = next((name for name in found if not os.path.lexists(name) and not is_elsewhere(name)), None)
    if absent is not None:
        raise DataError(f"{absent}: no such file or folder; check its name.")
    return found


def is_elsewhere(name: str) -> bool:
    """Whether a name refers to something other than a file: a camera, an address, or a member of a tar file."""
    return is_stream(name) or is_address(name) or member_of(name) is not None


def is_glob(path: str | Path) -> bool:
    return any(sign in str(path) for sign in "*?[") and not Path(path).exists() and not is_address(path)


def pixels_of(image: torch.Tensor) -> np.ndarray:
    """Converts [3, H, W], uint8 or float from 0 to 1, RGB, to uint8 [H, W, 3]."""
    if image.ndim != 3 or image.shape[0] != 3 or not image.numel():
        raise DataError(f"A tensor {list(image.shape)} is not an image: give RGB as [3, H, W] or [B, 3, H, W].")
    if image.is_floating_point():
        if not (image.min() >= 0 and image.max() <= 1):
            raise DataError("A float image has values outside 0 to 1: divide by 255, or give uint8.")
        image = (image * 255).round().to(torch.uint8)
    if image.dtype != torch.uint8:
        raise DataError(f"An image of type {image.dtype} is not known: give uint8, or floats from 0 to 1.")
    return np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy())


def is_pil(image: Any) -> bool:
    return type(image).__module__.partition(".")[0] == "PIL"


def pil_pixels(image: Any) -> np.ndarray:
    """Converts to RGB, upright by its EXIF orientation; 16 bits are reduced to 8, as for a file."""
    ImageOps = required("PIL.ImageOps", "pillow", "A PIL image")
    if image.mode in ("I", "F"):
        raise DataError(f"A PIL image of mode {image.mode} has no fixed range: convert it to RGB, or give an array.")
    upright = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        gray = (np.asarray(upright) >> 8).astype(np.uint8)
        return np.repeat(gray[..., None], 3, 2)
    return np.asarray(upright.convert("RGB"))
