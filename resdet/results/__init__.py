"""Results of models on images as objects, drawings and Parquet, and the parts of reports."""

from typing import TYPE_CHECKING

from resdet._lazy import attach

if TYPE_CHECKING:
    from resdet.results import visualizer as visualizer
    from resdet.results.result import Result as Result

__getattr__, __dir__ = attach(__name__, {"Result": "result", "visualizer": "visualizer"})
