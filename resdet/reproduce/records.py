"""Record types of trainings, rows and figures; the records are in `trainings.py` and `tables.py`."""

from dataclasses import dataclass

# Metric -> its name in printed tables.
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
    """A run of `resdet train`, possibly shared by rows."""

    name: str  # also the name of its folder
    config: str
    overrides: tuple[str, ...] = ()
    start: str | None = None  # the training that provides the initial weights (--init)
    proposer: str | None = None  # for an R-CNN: the training of the RPN (model.proposer)
    part: str = ""  # for training in several steps: subfolder of the run that contains the final weights

    @property
    def before(self) -> tuple[str, ...]:
        """The trainings that this one depends on."""
        return tuple(name for name in (self.start, self.proposer) if name)


@dataclass(frozen=True)
class Row:
    """A row of a table: nets, settings of their evaluation, and the paper's metrics in percent."""

    table: str
    name: str
    system: str
    paper: dict[str, float]
    nets: tuple[str, ...] = ()  # trainings; several are an ensemble
    test: tuple[str, ...] = ()  # overrides of the evaluation
    test_config: str | None = None  # config of the evaluation; None: that of the training
    classifiers: tuple[str, ...] = ()  # for localizers: trainings that predict the classes
    counted: str = ""  # backbone to count multiply-adds of, without training
    server: str = ""  # test server of the paper's metrics; rows use the validation set and write a submission
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
    # curves: error over training step; responses: standard deviations of layer responses; detections: drawn on
    # validation images.
    kind: str
