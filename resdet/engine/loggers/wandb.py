"""Weights & Biases. Its environment variables WANDB_PROJECT, WANDB_ENTITY and WANDB_MODE select the destination."""

import os
import secrets
from collections.abc import Mapping
from typing import Any

import numpy as np

from resdet.engine.loggers.run_ids import load_id, save_id
from resdet.engine.run import Run
from resdet.errors import Error, one_line
from resdet.optional import required

PROJECT = "resdet"  # unless WANDB_PROJECT is set


class WandbLogger:
    """Logs to a run with the name of the run folder; `--resume` continues it."""

    run: Any  # wandb's

    def __init__(self) -> None:
        self.wandb = required("wandb", "wandb", "train.loggers=[wandb]")

    def open(self, run: Run) -> None:
        number = load_id(run.folder, "wandb") or secrets.token_hex(4)
        try:
            self.run = self.wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                name=str(run.folder),
                id=number,
                resume="allow",
                config=run.experiment,
                dir=str(run.folder),
                settings=self.wandb.Settings(console="off"),  # the default replaces stdout and stderr of the process
            )
        except Exception as error:
            raise Error(
                f"wandb cannot start a run ({one_line(str(error))}): log in by `wandb login`, set WANDB_MODE=offline, "
                "or remove it from train.loggers."
            ) from error
        # wandb drops values of steps before its last one, which a resumed run logs again: `step` is a metric instead.
        self.run.define_metric("*", step_metric="step")
        save_id(run.folder, "wandb", number)

    def metrics(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        self.run.log({"step": step, **{f"{kind}/{key}": value for key, value in values.items()}})

    def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        self.run.log({"step": step, **{name: self.wandb.Image(pixels) for name, pixels in images.items()}})

    def close(self, complete: bool) -> None:
        self.run.finish(exit_code=0 if complete else 1)
