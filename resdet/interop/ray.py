"""Prediction on a Ray cluster, where each actor holds a model in fast mode.

`map_images` adds the results to a Ray Dataset; `predict_to_parquet` is `resdet predict --engine ray`.
"""

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from resdet.batch_inference.folder import IMAGES, Parts, locked, remove_unfinished
from resdet.batch_inference.images import Address, InMemory, list_images
from resdet.batch_inference.program import Loaded, Program
from resdet.batch_inference.run import open_folder, write_part
from resdet.engine.distributed import choose_device
from resdet.errors import ConfigError
from resdet.optional import required
from resdet.results.parquet import table_of

if TYPE_CHECKING:
    import pyarrow
    from ray.data import Dataset

Batch = Mapping[str, Any]


def map_images(
    dataset: "Dataset",
    weights: str | Sequence[str],
    *,
    image: str = "bytes",
    name: str = "path",
    workers: int = 1,
    cpus: float = 1,
    gpus: float = 0,
    batch: int = 64,
    **options: Any,
) -> "Dataset":
    """Predicts on a Ray Dataset of images: one row per image, with the columns of `resdet predict --parquet`.

    `image`: the column of encoded images or uint8 RGB arrays; `name`: the column that becomes `image` in the results.
    The rows of undecodable images have an `error`. `workers` actors with `cpus` and `gpus` each predict `batch` rows
    at a time. `options`: score, top, classes, overrides, classifiers, mode and compile of `resdet predict`.
    """
    data = ray_data()
    program = Program([weights] if isinstance(weights, str) else weights, **options)
    return dataset.map_batches(
        Mapper,
        fn_constructor_args=(program, image, name),
        batch_size=batch,
        batch_format="numpy",
        compute=data.ActorPoolStrategy(size=workers),
        num_cpus=cpus,
        num_gpus=gpus,
    )


class Mapper:
    """An actor of `map_images`."""

    def __init__(self, program: Program, image: str, name: str):
        self.loaded, self.image, self.name = load(program), image, name

    def __call__(self, batch: Batch) -> "pyarrow.Table":
        for column in (self.image, self.name):
            if column not in batch:
                raise ConfigError(f"The dataset has no column {column}: name those of images and names: {list(batch)}.")
        images = [InMemory(str(name), content) for name, content in zip(batch[self.name], batch[self.image])]
        return table_of(list(self.loaded.rows(images)))


def predict_to_parquet(
    program: Program, sources: Sequence[str], out: str | Path, size: int = IMAGES, workers: int | None = None
) -> None:
    """Runs `resdet.batch_inference.run.predict_to_parquet` on the actors of a cluster, by default one per GPU.

    An actor reads the images of a part and writes its file; if it is killed, another actor takes over the part. Paths
    must be valid on all machines.
    """
    ray_data()
    parts = Parts(Path(out), list_images(sources), size)
    with locked(parts.folder):
        numbers = open_folder(program, parts)
        if numbers:
            refuse_invalid(program)
            with cluster() as resources:
                write_parts(program, parts, numbers, workers, resources)
            remove_unfinished(parts.folder)  # files of killed actors


def refuse_invalid(program: Program) -> None:
    """Loads the models once in the driver, to report invalid files and options before Ray starts its actors."""
    replace(program, mode="exact", compile="auto").load(torch.device("cpu"))


def write_parts(
    program: Program, parts: Parts, numbers: Sequence[int], workers: int | None, resources: Mapping[str, float]
) -> None:
    gpus = int(resources.get("GPU", 0))
    workers = min(workers or gpus or 1, len(numbers))
    cpus = 1 if gpus else max(1, int(resources.get("CPU", 1)) // workers)
    jobs = [{"file": str(parts.file(k)), "images": json.dumps(parts.images_of(k))} for k in numbers]
    data = ray_data()
    done = data.from_items(jobs, override_num_blocks=len(jobs)).map_batches(
        PartWriter,
        fn_constructor_args=(program, os.getcwd()),
        batch_size=1,
        compute=data.ActorPoolStrategy(size=workers),
        num_cpus=cpus,
        num_gpus=min(gpus, 1),
    )
    for row in done.iter_rows():
        print(row["line"], flush=True)


class PartWriter:
    """An actor of `predict_to_parquet`; relative paths start from the driver's working directory."""

    def __init__(self, program: Program, place: str):
        os.chdir(place)
        self.loaded = load(program)

    def __call__(self, batch: Batch) -> dict[str, list[str]]:
        images = [Address(*fields) for fields in json.loads(batch["images"][0])]
        return {"line": [write_part(self.loaded, Path(batch["file"][0]), images)]}


def load(program: Program) -> Loaded:
    return program.load(choose_device("auto"))


@contextmanager
def cluster() -> Iterator[Mapping[str, float]]:
    """Yields the resources of the cluster that is connected or named by RAY_ADDRESS, or of a temporary one."""
    ray = required("ray", "'ray[data]'", "--engine ray")
    logging.getLogger("ray.data").setLevel(logging.WARNING)  # otherwise, it logs its progress every few seconds
    connected = ray.is_initialized()
    if not connected:
        ray.init(logging_level="warning")
    try:
        yield ray.cluster_resources()
    finally:
        if not connected:
            ray.shutdown()


def ray_data() -> Any:
    return required("ray.data", "'ray[data]'", "Prediction on a Ray cluster")
