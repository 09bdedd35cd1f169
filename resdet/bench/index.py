"""Time to open an annotation file for training, and memory after loader workers read all of it.

By default the file has a tenth of COCO's training set: 11,800 images, 86,000 objects.
"""

import contextlib
import io
import multiprocessing
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from resdet.bench import coco_files
from resdet.detection.data.annotations import Annotations
from resdet.detection.data.coco import open_coco
from resdet.timing import MEGABYTES, Case, Side

IMAGES, WORKERS = 11_800, 8
PSS = "/proc/self/smaps_rollup"  # Linux: a page shared by n processes counts 1/n in each

Samples = Callable[[int], Any]  # image index -> annotations


def cases(images: int = IMAGES, workers: int = WORKERS) -> Iterator[Case]:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "annotations.json"
        objects = coco_files.make_objects(images, np.random.default_rng(0))
        coco_files.write_annotations(file, objects, images)
        start = time.perf_counter()
        open_coco(file, folder)
        note = (
            f"{images} images, {len(objects.images)} objects, {file.stat().st_size / 2**20:.0f} MB of JSON; "
            f"first opening by resdet, which builds the cache: {time.perf_counter() - start:.1f} s"
        )
        sides: dict[str, Side] = {"pycocotools": partial(open_dict, file), "resdet": partial(open_coco, file, folder)}
        yield Case("opening, the second time", 1, sides, note, unit="ms", warm=False)
        sides = {
            "pycocotools": partial(weigh, partial(dict_samples, file), images, workers),
            "resdet": partial(weigh, partial(index_samples, file), images, workers),
        }
        if not Path(PSS).exists():
            sides = dict.fromkeys(sides, "Linux only")
        note = f"proportional set size of {workers} forked workers and their parent, above that of idle ones"
        yield Case(f"memory with {workers} workers after all samples", 1, sides, note, unit=MEGABYTES)


def open_dict(file: Path) -> Any:
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(file))


def dict_samples(file: Path) -> Samples:
    """Reads annotations from pycocotools' dicts, as torchvision's data sets do."""
    truth = open_dict(file)
    ids = sorted(truth.imgs)
    return lambda i: (truth.loadImgs(ids[i])[0]["file_name"], truth.loadAnns(truth.getAnnIds(ids[i])))


def index_samples(file: Path) -> Samples:
    source: Annotations = open_coco(file, file.parent)
    return lambda i: (source.name(i), source.objects(i))


def weigh(open_samples: Callable[[], Samples], images: int, workers: int) -> float:
    """Measures the MB that opening and reading all samples adds to a parent and its workers."""
    return (in_child(open_samples, images, workers) - in_child(nothing, images, workers)) / 2**20


def nothing() -> Samples:
    return lambda i: None


def in_child(open_samples: Callable[[], Samples], images: int, workers: int) -> int:
    """Returns the total bytes of a child process that opens the samples, and of its workers, from `weigh_family`."""
    context: Any = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    parent = context.Process(target=weigh_family, args=(open_samples, images, workers, send))
    parent.start()
    send.close()  # so that `recv` fails if the child dies
    total = receive.recv()
    parent.join()
    return total


def weigh_family(open_samples: Callable[[], Samples], images: int, workers: int, send: Any) -> None:
    context: Any = multiprocessing.get_context("fork")
    read, weighed = context.Barrier(workers + 1), context.Barrier(workers + 1)
    sizes = context.Array("q", workers)
    samples = open_samples()

    def work(number: int) -> None:
        for i in range(images):
            samples(i)
        read.wait()
        sizes[number] = proportional_size()
        weighed.wait()

    children = [context.Process(target=work, args=(number,)) for number in range(workers)]
    for child in children:
        child.start()
    read.wait()
    size = proportional_size()
    weighed.wait()
    for child in children:
        child.join()
    send.send(size + sum(sizes[:]))


def proportional_size() -> int:
    """Returns the proportional set size of this process in bytes."""
    lines = Path(PSS).read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
