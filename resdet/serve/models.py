"""The models of a server: loading, the state of each, and reloading when a file changes."""

import gc
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np

from resdet import hub
from resdet.engine import distributed
from resdet.errors import ConfigError, Error
from resdet.fast import Compile
from resdet.serve.limits import Limits, Refused
from resdet.serve.metrics import Metrics
from resdet.serve.worker import DEVICE, Item, Worker, run
from resdet.tasks import PredictOptions, tasks

WARM_UP = (480, 640)  # height and width of the first image
RETRY = "1"  # seconds until a refused request may be sent again
COLLECT_AFTER = 20_000  # new objects between collections; Python's default is 700 or 2000
Stamp = tuple[tuple[int, int], ...]  # time of change and size of each file
log = logging.getLogger("resdet")


@dataclass(frozen=True)
class Loaded:
    """A model that is ready to predict."""

    model: Any
    predictor: Any  # `prepare_image` and `predict_prepared`
    options: frozenset[str]  # of `top`, `score` and `draw`


Load = Callable[[str], Loaded]


class ServedModel:
    """A model with its queue; `current` changes when its file does."""

    def __init__(self, name: str, path: str, load: Load, limits: Limits, metrics: Metrics):
        self.name, self.path, self.load_file = name, path, load
        self.limits, self.metrics = limits, metrics
        self.worker = Worker(name, limits, metrics)
        self.current: Loaded | None = None
        self.problem: str | None = None  # of the last reload
        self.loaded_at: float | None = None  # seconds since the epoch
        self.stamp = self.seen = stamp_of(path)

    def load(self) -> None:
        """Loads the file and predicts once; requests meanwhile get the former model."""
        self.stamp = self.seen = stamp_of(self.path)
        loaded = self.load_file(self.path)
        warm_up(loaded)
        self.current, self.problem, self.loaded_at = loaded, None, time.time()

    def reload_if_changed(self) -> bool:
        """Loads a file that has changed and then rested for a poll; returns whether there is a new model.

        Keeps the former model if the new one is broken.
        """
        before, self.seen = self.seen, stamp_of(self.path)
        if self.seen == self.stamp or self.seen != before:
            return False
        try:
            self.load()
        except Exception as error:
            self.problem = str(error) if isinstance(error, Error) else f"{type(error).__name__} while loading."
            log.error("%s keeps the previous model: %s", self.name, self.problem, exc_info=not isinstance(error, Error))
        else:
            log.info("%s is reloaded from %s", self.name, self.path)
        self.metrics.count("resdet_reloads_total", model=self.name, result="failed" if self.problem else "loaded")
        return self.problem is None

    @property
    def ready(self) -> bool:
        return self.current is not None and self.worker.is_alive()

    def require(self) -> Loaded:
        if self.current is None:
            raise Refused(503, f"The model {self.name} is loading: try again.", Retry_After=RETRY)
        return self.current

    @contextmanager
    def slots(self) -> Iterator[Callable[[int], None]]:
        """Admits the image of a request until the end of the context; call the yielded function for further images."""
        taken = 0

        def take(count: int) -> None:
            nonlocal taken
            if self.worker.admitted + count > self.limits.queue:
                raise Refused(503, f"The queue of {self.name} is full: try again.", Retry_After=RETRY)
            self.worker.admitted += count
            taken += count

        try:
            take(1)
            yield take
        finally:
            self.worker.admitted -= taken

    def describe(self) -> dict[str, Any]:
        """The entry of GET /v1/models."""
        current = self.current
        return {
            "name": self.name,
            "file": Path(self.path).name,
            "ready": self.ready,
            "task": current.model.task if current else None,
            "classes": current.model.classes if current else [],
            "options": sorted(current.options) if current else [],
            "loaded_at": self.loaded_at,
            "problem": self.problem,
        }


class Models(Thread):
    """All models by name; the thread loads them, then polls their files every `poll` seconds."""

    def __init__(
        self, served: Sequence[ServedModel], poll: float = 2.0, failed: Callable[[Exception], None] = log.error
    ):
        """`failed` gets the error of a model that cannot be loaded at the start."""
        super().__init__(name="resdet-models", daemon=True)
        self.served: Mapping[str, ServedModel] = {model.name: model for model in served}
        self.poll, self.failed = poll, failed
        self.stopped = Event()

    def run(self) -> None:
        try:
            for model in self.served.values():
                model.worker.start()
                model.load()
                log.info("%s is ready", model.name)
        except Exception as error:
            self.failed(error)
            return
        freeze()
        while not self.stopped.wait(self.poll):
            reloaded = [model.reload_if_changed() for model in self.served.values()]
            if any(reloaded) and not self.stopped.wait(self.poll):  # requests of the former model end meanwhile
                freeze()

    def stop(self) -> None:
        """Ends all threads after the images in the queues."""
        self.stopped.set()
        for model in self.served.values():
            model.worker.stop()

    @property
    def ready(self) -> bool:
        return all(model.ready for model in self.served.values())

    def get(self, name: str | None) -> ServedModel:
        """The model of this name, by default the first."""
        if name is None:
            return next(iter(self.served.values()))
        if name not in self.served:
            raise Refused(404, f"There is no model {name!r}: give one of {', '.join(self.served)}.")
        return self.served[name]


def freeze() -> None:
    """Exempts all objects from garbage collection, after one of the former model.

    Else a collection visits the objects of torch and the models, and stops all threads for a tenth of a second, once in
    about 1000 requests. Collections of new objects are rare, too, since requests make no reference cycles.
    """
    gc.set_threshold(COLLECT_AFTER)
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def stamp_of(path: str) -> Stamp:
    """Of a file, and of the weights next to an OpenVINO file; empty for the name of a published model."""
    file = Path(path)
    files = [file, file.with_suffix(".bin")] if file.suffix == ".xml" else [file]
    states = []
    for each in files:
        with suppress(OSError):  # also of storage that does not respond at the moment: polling goes on
            states.append(each.stat())
    return tuple((state.st_mtime_ns, state.st_size) for state in states)


def warm_up(loaded: Loaded) -> None:
    """Predicts noise once, so that the first request does not pay for what a net allocates."""
    pixels = np.random.default_rng(0).integers(256, size=(*WARM_UP, 3), dtype=np.uint8)
    with DEVICE:
        run([Item(loaded.predictor, loaded.predictor.prepare_image(pixels), None, None)])


def loader(device: str, mode: hub.Mode, compile: Compile, classifiers: Sequence[str] = ()) -> Load:
    """Loads models for a device; `classifiers` predict the classes for localizers."""

    def load(path: str) -> Loaded:
        chosen = distributed.choose_device(device)
        model = hub.load(path, mode, chosen, compile)
        task = tasks[model.task]
        needed = classifiers if "classifiers" in task.evaluate_options else ()
        nets = {name: hub.load(name, mode, chosen, compile) for name in needed}
        return Loaded(model, task.predictor([model], [path], PredictOptions(classifiers=nets)), task.predict_options)

    return load


def named(words: Sequence[str]) -> dict[str, str]:
    """Paths by name, of words NAME=PATH or PATH, whose name is the stem of the file."""
    paths: dict[str, str] = {}
    for word in words:
        name, given, path = word.partition("=")
        if not given:
            name, path = Path(word).stem, word
        if not (name and path):
            raise ConfigError(f"{word}: the model needs a name and a file; give NAME=PATH.")
        if name in paths:
            raise ConfigError(f"{word}: two models need two names; give NAME=PATH.")
        paths[name] = path
    return paths
