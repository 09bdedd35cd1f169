"""`resdet predict`: runs a checkpoint, or an ensemble, on image files, videos and cameras."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from resdet import config
from resdet.batch_inference.images import is_set
from resdet.batch_inference.program import Program
from resdet.engine import distributed
from resdet.errors import ConfigError, DataError
from resdet.files.atomic import write_json
from resdet.images.address import is_image_address
from resdet.images.image_files import images_of, is_image
from resdet.images.inputs import expanded, is_glob
from resdet.images.video import Video, is_video
from resdet.results.stream import Source
from resdet.tasks import tasks
from resdet.weights import zoo


def sort_words(first: Sequence[str], others: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Splits the values of an option (`first`) and the positional arguments (`others`) into weights, images and
    overrides.

    argparse assigns images after --weights to --weights. The first value is always weights. Of the others, images are
    folders, globs, names with the suffix of an image, video, tar or Parquet file, camera numbers and URLs.
    """
    overrides = [word for word in (*first, *others) if config.is_override(word)]
    foreign = [word for word in overrides if not word.startswith("eval.")]
    if foreign:
        raise ConfigError(f"predict only accepts overrides of eval, not {foreign[0]}: leave it out.")
    values = [word for word in first if word not in overrides]
    images = [word for word in values[1:] if is_source(word)]
    weights = [*values[:1], *(word for word in values[1:] if word not in images)]
    unknown = next((word for word in weights[1:] if not zoo.is_known(word)), None)
    if unknown is not None:
        raise ConfigError(
            f"{unknown} is not a file, a folder or a published model: check its name; `resdet zoo` lists models."
        )
    return weights, [*(word for word in others if word not in overrides), *images], overrides


def is_source(word: str) -> bool:
    """Whether a word specifies images, not weights."""
    return Path(word).is_dir() or is_glob(word) or is_image(word) or is_video(word) or is_set(word)


def predict(
    program: Program,
    images: Sequence[str],
    json_path: str | None = None,
    draw: str | None = None,
    device: str = "auto",
    track: bool = False,
) -> None:
    """Prints the prediction for each image or video frame; a folder means the images in it.

    Several detectors, or several localizers, form an ensemble. `draw`: folder for images with drawn results; `device`:
    auto, cpu, cuda or cuda:N; `track`: give objects track ids. Unreadable images and damaged videos do
    not end the prediction; a DataError after the last result lists them.
    """
    if not images:
        others = "".join(f"; {name} has no suffix of an image and counts as weights" for name in program.weights[1:2])
        raise ConfigError(
            f"No images to predict on: give image files, folders of images, videos, or a camera as 0{others}."
        )
    sources = open_sources(images)
    models, options = program.models(distributed.choose_device(device, key="--device"))
    if track and models[0].task != "detection":
        raise ConfigError(f"{program.weights[0]} is a {models[0].kind}: leave out --track, which needs a detector.")
    options = replace(options, draw=Path(draw) if draw else None, track=track)
    errors: list[str] = []
    rows = noting(tasks[models[0].task].predict(models, program.weights, sources, options), errors)
    # `rows` is lazy: consume it, but keep the rows only if they are written.
    write_json(json_path, [row for row in rows if json_path])
    refuse_losses(sources, errors)


def refuse_losses(sources: Sequence[Source], errors: Sequence[str]) -> None:
    """Raises a DataError for unreadable images, with their `errors`, and for incomplete videos."""
    videos = [source for source in sources if isinstance(source, Video)]
    losses = [loss for video in videos if (loss := video.loss())]
    if errors:
        total = len(sources) - len(videos)
        losses.insert(0, f"{len(errors)} of {total} images cannot be read and have no result; the first: {errors[0]}")
    if losses:
        raise DataError(" ".join(losses))


def noting(rows: Iterable[dict[str, Any]], errors: list[str]) -> Iterator[dict[str, Any]]:
    """Yields the rows; appends the error of each unreadable image to `errors`."""
    for row in rows:
        if "error" in row:
            errors.append(row["error"])
        yield row


def open_sources(names: Sequence[str]) -> list[Source]:
    """Returns the images at paths and addresses, in folders and of globs, and opens videos, cameras and streams."""
    sources: list[Source] = []
    for name in expanded(names):
        if is_image_address(name):
            sources.append(name)
            continue
        path = Path(name)
        if is_video(name) and not path.is_dir():
            sources.append(Video(name))
            continue
        if is_set(name) and not path.is_dir():
            raise ConfigError(
                f"{name} is a file of many images, or an address of them: add --parquet DIR for the results."
            )
        images = images_of(path) if path.is_dir() else [path]
        if not images:
            raise DataError(
                f"{path} contains no images itself: give a glob such as '{path}/**/*.jpg' for those of its folders, "
                "another folder, image files or videos."
            )
        sources += images
    return sources
