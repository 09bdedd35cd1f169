"""Record types of trainings, rows and figures; the records are in `trainings.py` and `tables.py`."""

from dataclasses import dataclass

# Metric -> name in printed tables.
METRICS = {
    "error": "top-1 error",
    "top5_error": "top-5 error",
    "loc_error": "LOC error, true class",
    "top5_loc_error": "top-5 LOC error",
    "mAP": "mAP",
    "AP": "AP",
    "AP50": "AP50",
    "mask_AP": "mask AP",
    "mask_AP50": "mask AP50",
    "multiply_adds": "10⁹ multiply-adds",
}
BILLIONS = ("multiply_adds",)  # metrics in 10⁹; all others are in percent


@dataclass(frozen=True)
class Training:
    """A run of `resdet train`, which several rows may share."""

    name: str  # also the name of its folder
    config: str
    overrides: tuple[str, ...] = ()
    start: str | None = None  # training that provides the initial weights (--init)
    proposer: str | None = None  # for an R-CNN: training of the RPN (model.proposer)
    part: str = ""  # for training in several steps: subfolder of the run with the final weights

    @property
    def before(self) -> tuple[str, ...]:
        """Trainings that this one depends on."""
        return tuple(name for name in (self.start, self.proposer) if name)


@dataclass(frozen=True)
class Row:
    """A row of a table: nets, evaluation settings, and the paper's metrics in percent."""

    table: str
    name: str
    system: str
    paper: dict[str, float]
    nets: tuple[str, ...] = ()  # trainings; several are an ensemble
    test: tuple[str, ...] = ()  # overrides for the evaluation
    test_config: str | None = None  # config for the evaluation; None: the training's
    classifiers: tuple[str, ...] = ()  # for localizers: trainings that predict the classes
    counted: str = ""  # backbone for counting multiply-adds, without training
    server: str = ""  # test server of the paper's metrics; the row uses the validation set and writes a submission
    server_data: tuple[str, ...] = ()  # overrides that select the test images of the server
    unseen: bool = True  # whether the validation images are disjoint from the training images

    @property
    def key(self) -> str:
        return f"{self.table}/{self.name}"


@dataclass(frozen=True)
class Figure:
    """A figure of the paper."""

    name: str
    title: str
    nets: tuple[str, ...]
    # curves: error over training step; responses: standard deviations of layer responses; detections: validation images
    # with drawn detections.
    kind: str
