"""Pictures of a few validation images with the predicted classes of the last evaluation."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from resdet.classification.evaluate import Scored
from resdet.engine.distributed import gather

TOP = 3  # number of predicted classes
LINE, SCALE = 14, 0.4  # height in pixels and font scale of a line
BLACK, RED, GREEN = (0, 0, 0), (200, 0, 0), (0, 130, 0)

Best = tuple[list[int], list[float]]  # labels and scores of the best classes


class BestClasses:
    """Collects the best classes of a few images during an evaluation of all."""

    def __init__(self, indices: Sequence[int]):
        self.selection = set(indices)
        self.parts: list[tuple[int, Best]] = []

    def collect(self, scored: Iterable[Scored]) -> Iterator[Scored]:
        """Yields the batches of an evaluation unchanged, and stores the best classes."""
        for scores, labels, indices in scored:
            for row, index in enumerate(indices.tolist()):
                if index in self.selection:
                    best = scores[row].topk(min(TOP, scores.shape[1]))
                    self.parts.append((index, (best.indices.tolist(), best.values.tolist())))
            yield scores, labels, indices

    def gather(self) -> dict[int, Best]:
        """Returns the best classes by image, from all processes."""
        return dict(sorted(gather(self.parts)))


def captioned(pixels: np.ndarray, label: int, best: Best, classes: Sequence[str]) -> np.ndarray:
    """Draws the image with its class below, in black, and the best classes with their scores: the correct one in green,
    others in red."""
    import cv2  # training without loggers does not need OpenCV

    from resdet.results.visualizer import FONT, fitted

    lines = [(classes[label], BLACK)]
    lines += [(f"{score:.2f} {classes[guess]}", GREEN if guess == label else RED) for guess, score in zip(*best)]
    pixels = fitted(pixels)
    strip = np.full((LINE * len(lines) + LINE // 2, pixels.shape[1], 3), 255, np.uint8)
    for number, (text, color) in enumerate(lines, 1):
        cv2.putText(strip, text, (2, LINE * number), FONT, SCALE, color, 1, cv2.LINE_AA)
    return np.concatenate([pixels, strip])
