"""What a row of the paper is made of. Rows are data: `trainings.py` and `tables.py` hold them."""

from dataclasses import dataclass

# Figures by their names here: how a table calls them.
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
BILLIONS = ("multiply_adds",)  # all others are shares, told in per cent


@dataclass(frozen=True)
class Training:
    """A run of `resdet train`, which several rows may share."""

    name: str  # and that of its folder
    config: str
    overrides: tuple[str, ...] = ()
    start: str | None = None  # the training whose weights it starts from (--init)
    proposer: str | None = None  # an R-CNN's: the training that proposes (model.proposer)
    part: str = ""  # the folder within the run's that holds the weights, of training in several steps

    @property
    def before(self) -> tuple[str, ...]:
        """The trainings that this one needs."""
        return tuple(name for name in (self.start, self.proposer) if name)


@dataclass(frozen=True)
class Row:
    """A row of a table: nets, how they are tested, and the paper's figures in per cent."""

    table: str
    name: str
    system: str
    paper: dict[str, float]
    nets: tuple[str, ...] = ()  # trainings; several are an ensemble
    test: tuple[str, ...] = ()  # overrides of the evaluation
    test_config: str | None = None  # where it is another than the training's
    classifiers: tuple[str, ...] = ()  # a localizer's: trainings that predict the classes
    counted: str = ""  # a backbone that is only counted, not trained
    server: str = ""  # who alone can tell the figures: then a submission is written, and the validation set judged
    server_data: tuple[str, ...] = ()  # overrides that name its test images
    unseen: bool = True  # whether the validation images are none of those that it was trained on

    @property
    def key(self) -> str:
        return f"{self.table}/{self.name}"


@dataclass(frozen=True)
class Figure:
    """A figure of the paper: what is drawn of which nets."""

    name: str
    title: str
    nets: tuple[str, ...]
    # curves: errors over the steps of training; responses: deviations of the layers' responses; detections: drawn on
    # validation images.
    kind: str
