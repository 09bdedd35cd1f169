"""Counters and histograms in Prometheus' text format."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from threading import Lock

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
IMAGES = (1, 2, 4, 8, 16, 32, 64)
COUNTERS = {
    "resdet_requests_total": "Responses by route and status.",
    "resdet_dropped_images_total": "Decoded images that were dropped: the client disconnected, or the request ended.",
    "resdet_reloads_total": "Reloads of changed files by model and result.",
}
HISTOGRAMS: dict[str, tuple[str, Sequence[float]]] = {
    "resdet_request_seconds": ("Time from the headers of a prediction request to its response.", SECONDS),
    "resdet_stage_seconds": ("Time of an image in each stage: decode, queue, net; of a request: encode.", SECONDS),
    "resdet_batch_images": ("Images that the net predicted together.", IMAGES),
}
GAUGES = {
    "resdet_queue_images": "Images of a model that are admitted and not answered.",
    "resdet_waiting_images": "Decoded images that wait for the net.",
    "resdet_in_flight_requests": "Requests without a response.",
    "resdet_model_ready": "1 if the model is loaded and warm.",
}
Labels = tuple[tuple[str, str], ...]
Gauges = Mapping[str, Mapping[Labels, float]]


class Metrics:
    """Thread-safe counts of this process."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.counts: dict[tuple[str, Labels], int] = defaultdict(int)
        self.observed: dict[tuple[str, Labels], list[int]] = {}  # counts by bucket; the last has no upper limit
        self.sums: dict[tuple[str, Labels], float] = defaultdict(float)

    def count(self, name: str, number: int = 1, **labels: str) -> None:
        with self.lock:
            self.counts[name, tuple(labels.items())] += number

    def observe(self, name: str, value: float, **labels: str) -> None:
        limits, key = HISTOGRAMS[name][1], (name, tuple(labels.items()))
        with self.lock:
            buckets = self.observed.setdefault(key, [0] * (len(limits) + 1))
            buckets[bisect_left(limits, value)] += 1
            self.sums[key] += value

    def text(self, gauges: Gauges) -> str:
        """Returns the metrics as text; `gauges`: current values by name and labels."""
        with self.lock:
            return "\n".join([*self.counter_lines(), *self.histogram_lines(), *gauge_lines(gauges)]) + "\n"

    def counter_lines(self) -> Iterator[str]:
        for name, summary in COUNTERS.items():
            yield from head(name, summary, "counter")
            yield from (sample(*key, value) for key, value in self.counts.items() if key[0] == name)

    def histogram_lines(self) -> Iterator[str]:
        for name, (summary, limits) in HISTOGRAMS.items():
            yield from head(name, summary, "histogram")
            for key, buckets in self.observed.items():
                if key[0] == name:
                    yield from histogram(*key, limits, buckets, self.sums[key])


def histogram(name: str, labels: Labels, limits: Sequence[float], buckets: Sequence[int], total: float) -> list[str]:
    """Returns the lines of a histogram, with cumulative counts."""
    lines, seen = [], 0
    for limit, count in zip([*map(str, limits), "+Inf"], buckets):
        seen += count
        lines.append(sample(f"{name}_bucket", (*labels, ("le", limit)), seen))
    return [*lines, sample(f"{name}_sum", labels, total), sample(f"{name}_count", labels, seen)]


def gauge_lines(gauges: Gauges) -> Iterator[str]:
    for name, summary in GAUGES.items():
        yield from head(name, summary, "gauge")
        yield from (sample(name, labels, value) for labels, value in gauges[name].items())


def head(name: str, summary: str, kind: str) -> list[str]:
    return [f"# HELP {name} {summary}", f"# TYPE {name} {kind}"]


def sample(name: str, labels: Labels, value: float) -> str:
    pairs = ",".join(f'{key}="{escape(text)}"' for key, text in labels)
    return f"{name}{{{pairs}}} {value!r}" if pairs else f"{name} {value!r}"


def escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
