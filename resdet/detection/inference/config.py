"""Config of test-time augmentation; free of torch."""

from dataclasses import dataclass, field

from resdet.errors import require


@dataclass
class TTAConfig:
    """How a detector is tested. But for `score`: resdet.detection.EnsembleDetector (appendix B), one image after another."""

    __test__ = False  # or pytest would look for tests in a class of this name

    score: float | None = None  # detections above this are kept; null: model.box.score
    refine: bool = False  # score each regressed box again, and vote for the boxes that survive suppression
    voting_iou: float | None = 0.5  # with refine: boxes of a class that overlap so far vote; null: no voting
    # Masks, too, are means over all that overlap a survivor so far: MNC's 0.5. Null: each survivor draws its own.
    mask_voting_iou: float | None = None
    # Short sides. C4, DC5 and VGG merge two for each region by maxout (the paper: 200, 400, 600, 800, 1000), with
    # proposals from model.input.min_size; a pyramid or a cascade looks at each image at all of them. None: that one alone.
    scales: list[int] = field(default_factory=list)
    flip: bool = False  # the mirrored image as well
    nms: float | None = None  # IoU of the last suppression; null: model.box.nms, and the paper's 0.3 with refine

    def __post_init__(self):
        score = self.score
        require(score is None or 0 <= score < 1, "eval.score", score, "it lies between 0 and 1, as in 0.05")
        for key in ("voting_iou", "mask_voting_iou", "nms"):
            iou = getattr(self, key)
            require(iou is None or 0 <= iou <= 1, f"eval.{key}", iou, "an IoU lies between 0 and 1")
        require(min(self.scales, default=1) > 0, "eval.scales", list(self.scales), "list sizes in pixels, or none")

    @property
    def plain(self) -> bool:
        """Nothing is asked for that only the EnsembleDetector does."""
        return not (self.refine or self.scales or self.flip) and self.mask_voting_iou is None and self.nms is None
