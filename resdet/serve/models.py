"""The models of a server: loading, state, and reloading when a file changes."""

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

WARM_UP = (480, 640)  # height and width of the warm-up image
RETRY = "1"  # seconds until a refused request may be retried
COLLECT_AFTER = 20_000  # new objects between garbage collections; Python's default is 700 or 2000
Stamp = tuple[tuple[int, int], ...]  # modification time and size of each file
log = logging.getLogger("resdet")


@dataclass(frozen=True)
class Loaded:
    """A model that is ready to predict."""

    model: Any
    predictor: Any  # has `prepare_image` and `predict_prepared`
    options: frozenset[str]  # the supported ones of `top`, `score` and `draw`


Load = Callable[[str], Loaded]


class ServedModel:
    """A model with its queue; `current` is replaced when its file changes."""

    def __init__(self, name: str, path: str, load: Load, limits: Limits, metrics: Metrics):
        self.name, self.path, self.load_file = name, path, load
        self.limits, self.metrics = limits, metrics
        self.worker = Worker(name, limits, metrics)
        self.current: Loaded | None = None
        self.problem: str | None = None  # error of the last reload
        self.loaded_at: float | None = None  # seconds since the epoch
        self.stamp = self.seen = stamp_of(path)

    def load(self) -> None:
        """Loads the file and predicts once; meanwhile, requests use the previous model."""
        self.stamp = self.seen = stamp_of(self.path)
        loaded = self.load_file(self.path)
        warm_up(loaded)
        self.current, self.problem, self.loaded_at = loaded, None, time.time()

    def reload_if_changed(self) -> bool:
        """Loads a file that has changed, once it stays the same between two polls; returns whether the model is new.

        Keeps the previous model if the new one is broken.
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
        """Context that admits one image of a request; call the yielded function to admit more."""
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
        """Returns the entry in GET /v1/models."""
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
    """All models by name; this thread loads them, then polls their files every `poll` seconds."""

    def __init__(
        self, served: Sequence[ServedModel], poll: float = 2.0, failed: Callable[[Exception], None] = log.error
    ):
        """`failed`: called with the error of a model that cannot be loaded at the start."""
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
            if any(reloaded) and not self.stopped.wait(self.poll):  # meanwhile, requests of the previous model end
                freeze()

    def stop(self) -> None:
        """Ends all threads once their queues are empty."""
        self.stopped.set()
        for model in self.served.values():
            model.worker.stop()

    @property
    def ready(self) -> bool:
        return all(model.ready for model in self.served.values())

    def get(self, name: str | None) -> ServedModel:
        """Returns the model of this name, by default the first."""
        if name is None:
            return next(iter(self.served.values()))
        if name not in self.served:
            raise Refused(404, f"There is no model {name!r}: give one of {', '.join(self.served)}.")
        return self.served[name]


def freeze() -> None:
    """Collects the previous model, then exempts all objects from garbage collection.

    Otherwise, a collection visits the objects of torch and the models and stops all threads for a tenth of a second,
    about once per 1000 requests. Collections of new objects are rare too, as requests create no reference cycles.
    """
    gc.set_threshold(COLLECT_AFTER)
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def stamp_of(path: str) -> Stamp:
    """Returns the stamp of a file, plus the weights next to an OpenVINO file; empty for a published model."""
    file = Path(path)
    files = [file, file.with_suffix(".bin")] if file.suffix == ".xml" else [file]
    states = []
    for each in files:
        with suppress(OSError):  # polling continues even if storage does not respond
            states.append(each.stat())
    return tuple((state.st_mtime_ns, state.st_size) for state in states)


def warm_up(loaded: Loaded) -> None:
    """Predicts noise once, so that the first request is not slowed by allocations."""
    pixels = np.random.default_rng(0).integers(256, size=(*WARM_UP, 3), dtype=np.uint8)
    with DEVICE:
        run([Item(loaded.predictor, loaded.predictor.prepare_image(pixels), None, None)])


def loader(device: str, mode: hub.Mode, compile: Compile, classifiers: Sequence[str] = ()) -> Load:
    """Returns a function that loads models on a device; `classifiers` predict the classes for localizers."""

    def load(path: str) -> Loaded:
        chosen = distributed.choose_device(device)
        model = hub.load(path, mode, chosen, compile)
        task = tasks[model.task]
        needed = classifiers if "classifiers" in task.evaluate_options else ()
        nets = {name: hub.load(name, mode, chosen, compile) for name in needed}
        return Loaded(model, task.predictor([model], [path], PredictOptions(classifiers=nets)), task.predict_options)

    return load


def named(words: Sequence[str]) -> dict[str, str]:
    """Returns {name: path} from NAME=PATH or PATH; the name of the latter is the stem of the file."""
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
