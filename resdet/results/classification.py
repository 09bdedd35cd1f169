"""The result of a classifier on one image."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from resdet.files.atomic import write_json
from resdet.optional import required


@dataclass(eq=False, repr=False)
class Classification:
    """The predicted classes of one image, best first."""

    labels: np.ndarray  #: [k] class numbers
    scores: np.ndarray  #: [k] probabilities
    names: list[str]
    image: str | Path | np.ndarray | None = None  #: the file, or uint8 RGB pixels [H, W, 3]

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        return f"<Classification: {self}>"

    def __str__(self) -> str:
        return ", ".join(f"{name} {score:.3f}" for name, score in zip(self.names, self.scores))

    def to_dict(self) -> dict[str, Any]:
        """Returns all fields except the pixels, in JSON types."""
        image = str(self.image) if isinstance(self.image, (str, Path)) else None
        return {"image": image, "names": self.names, "labels": self.labels.tolist(), "scores": self.scores.tolist()}

    def to_pandas(self) -> Any:
        """Converts to a pandas DataFrame, one row per class."""
        pandas = required("pandas", "pandas", "to_pandas")
        return pandas.DataFrame(self.columns())

    def columns(self) -> dict[str, Any]:
        """The columns of `to_pandas`, by name."""
        return {"name": self.names, "label": self.labels, "score": self.scores}

    def select(self, keep: np.ndarray | Sequence[int]) -> "Classification":
        """Selects classes by a bool mask [k], or by indices, in their order."""
        chosen = np.arange(len(self))[keep]
        return replace(
            self, labels=self.labels[chosen], scores=self.scores[chosen], names=[self.names[i] for i in chosen]
        )

    def save(self, path: str | Path) -> None:
        """Writes the fields of `to_dict` as JSON."""
        write_json(str(path), self.to_dict())
