"""Losses and measures of the steps between two log lines, kept on the device to avoid synchronization in each step."""

from collections.abc import Callable

import torch
from torch import Tensor

from resdet.errors import Error


class NonFiniteLoss(Error):
    """A loss became NaN or infinite."""


class MetricBuffer:
    """Losses and measures of the steps since the last `clear`, one row per step."""

    def __init__(self) -> None:
        self.rows: list[Tensor] = []  # [K] per step, on the device
        self.indices: list[Tensor] = []  # the images of each step
        self.names: list[str] = []
        self.losses = 0  # number of names that are losses, which come first

    def row(self, losses: dict[str, Tensor], measures: dict[str, Tensor]) -> Tensor:
        """Stacks the values of a step to [K], and stores their names."""
        self.names, self.losses = [*losses, *measures], len(losses)
        return torch.stack([value.detach().float() for value in (*losses.values(), *measures.values())])

    def add(self, row: Tensor, indices: Tensor) -> None:
        self.rows.append(row)
        self.indices.append(indices)

    def __len__(self) -> int:
        return len(self.rows)

    def table(self) -> Tensor:
        """Returns all rows [steps, K] on the CPU; synchronizes with the device."""
        return torch.stack(self.rows).cpu()

    def check(self, table: Tensor, last_step: int, name_of: Callable[[int], str]) -> None:
        """Raises NonFiniteLoss with the name, step and images of a loss that is not finite."""
        bad = ~torch.isfinite(table[:, : self.losses])
        if not bad.any():
            return
        row, column = bad.nonzero()[0].tolist()
        images = [name_of(int(index)) for index in self.indices[row]]
        names = ", ".join(images[:8]) + (f" and {len(images) - 8} more" if len(images) > 8 else "")
        raise NonFiniteLoss(
            f"The loss {self.names[column]} became {table[row, column].item()} "
            f"at step {last_step - len(self) + row + 1} on {names}: lower optim.lr, set optim.clip_norm, or inspect "
            "these images; last.pth, if written, is from an earlier step."
        )

    def clear(self) -> None:
        self.rows, self.indices = [], []

    def state_dict(self) -> dict:
        return {
            "rows": [row.cpu() for row in self.rows],
            "indices": self.indices,
            "names": self.names,
            "losses": self.losses,
        }

    def load_state_dict(self, state: dict, device: torch.device) -> None:
        self.rows = [row.to(device) for row in state["rows"]]
        self.indices, self.names, self.losses = state["indices"], state["names"], state["losses"]
