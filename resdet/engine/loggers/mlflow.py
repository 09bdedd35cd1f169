"""MLflow. Its environment variables MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME select the destination."""

import os
import re
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from resdet.engine.loggers.run_ids import load_id, save_id
from resdet.engine.run import Run
from resdet.errors import Error, one_line
from resdet.optional import required

EXPERIMENT = "resdet"  # unless MLFLOW_EXPERIMENT_NAME is set
REFUSED = re.compile(r"[^\w\-. :/]", re.ASCII)  # characters that names cannot contain


class MlflowLogger:
    """Logs to a run with the name of the run folder, and config.yaml as an artifact; `--resume` continues it."""

    client: Any
    number: str  # id of the run

    def __init__(self) -> None:
        required("mlflow", "mlflow", "train.loggers=[mlflow]")

    def open(self, run: Run) -> None:
        from mlflow import MlflowClient

        try:
            self.client = MlflowClient()
            self.number = load_id(run.folder, "mlflow") or self.create(run)
            self.client.update_run(self.number, status="RUNNING")
            self.client.log_dict(self.number, run.experiment, "config.yaml")
        except Exception as error:
            raise Error(
                f"mlflow cannot start a run ({one_line(str(error))}): set MLFLOW_TRACKING_URI, or remove it from "
                "train.loggers."
            ) from error
        save_id(run.folder, "mlflow", self.number)

    def create(self, run: Run) -> str:
        """Creates a run and returns its id."""
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        known = self.client.get_experiment_by_name(name)
        number = known.experiment_id if known else self.client.create_experiment(name)
        return self.client.create_run(number, run_name=str(run.folder)).info.run_id

    def metrics(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        rows = [Metric(accepted(f"{kind}/{key}"), value, now, step) for key, value in values.items()]
        self.client.log_batch(self.number, metrics=rows)

    def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        for name, pixels in images.items():
            self.client.log_image(self.number, pixels, key=accepted(name), step=step)

    def close(self, complete: bool) -> None:
        self.client.set_terminated(self.number, "FINISHED" if complete else "KILLED")


def accepted(name: str) -> str:
    """Removes characters that mlflow does not accept."""
    return REFUSED.sub("_", name)
