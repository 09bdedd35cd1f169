"""Config of test-time augmentation; imports no torch."""

from dataclasses import dataclass, field

from resdet.detection.heads.config import check_score, is_share
from resdet.errors import require


@dataclass
class TTAConfig:
    """Test-time settings of a detector (appendix B). All but `score`, `tile` and `overlap` need an
    EnsembleDetector."""

    score: float | None = None  # score threshold of detections; null: `model.box.score`
    refine: bool = False  # box refinement and box voting (appendix B)
    voting_iou: float | None = 0.5  # with refine: smallest IoU of voting boxes; null: no voting
    mask_voting_iou: float | None = None  # smallest IoU of voting masks, 0.5 in MNC; null: no voting
    # shorter sides in pixels; empty: `model.input.min_size` only. C4, DC5 and VGG merge two scales per RoI by maxout
    # (the paper: 200, 400, 600, 800, 1000), with proposals from `model.input.min_size`; pyramids and cascades average
    # over all scales
    scales: list[int] = field(default_factory=list)
    flip: bool = False  # also use the horizontally flipped image
    nms: float | None = None  # IoU threshold of the final NMS; null: `model.box.nms`, or the paper's 0.3 with refine
    # also run on square tiles of this side in pixels, 32 or more, for large images; null: only on the whole image
    tile: int | None = None
    overlap: float = 0.2  # smallest overlap of neighboring tiles, as a share of their side, from 0 to 0.9

    def __post_init__(self):
        if self.score is not None:
            check_score(self.score, "eval.score")
        for key in ("voting_iou", "mask_voting_iou", "nms"):
            iou = getattr(self, key)
            require(iou is None or is_share(iou), f"eval.{key}", iou, "give an IoU from 0 to 1")
        check_tiles(self.tile, self.overlap, "eval.")
        require(min(self.scales, default=1) > 0, "eval.scales", list(self.scales), "list sizes in pixels, or none")

    @property
    def plain(self) -> bool:
        """Whether no setting needs the EnsembleDetector."""
        return not (self.refine or self.scales or self.flip) and self.mask_voting_iou is None and self.nms is None


def check_tiles(tile: int | None, overlap: float, section: str = "") -> None:
    """Raises ConfigError for tiles that are too small, or whose overlap makes their number explode."""
    require(tile is None or tile >= 32, f"{section}tile", tile, "give 32 pixels or more, such as 1024")
    require(0 <= overlap <= 0.9, f"{section}overlap", overlap, "give a share from 0 to 0.9, such as 0.2")
