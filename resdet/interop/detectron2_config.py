"""detectron2's YAML configs as ours; it need not be installed.

    found = translate("COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml")
    experiment = resdet.config.from_dict(found.settings)

Two habits of that library have no key and are not taken over: it leaves out training images without objects, and it
spares norms (not biases) from weight decay.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from resdet import config as configs
from resdet.detection.heads.config import MaskConfig
from resdet.errors import ConfigError
from resdet.interop.detectron2_keys import (
    CANONICAL,
    COCO,
    FORMS,
    NORMS,
    ONLY,
    OTHERS,
    POOLERS,
    SAME,
    SAME_OF_LINEAR_HEADS,
    SAME_OF_MASKS,
    VOC,
)
from resdet.interop.detectron2_yaml import nested, read

MIN_SIZE = 1e-6  # pixels; detectron2's 0 drops what has no side at all
ZOO = "https://dl.fbaipublicfiles.com/detectron2/"
TORCHVISION = "ImageNetPretrained/torchvision/R-"


@dataclass
class Translation:
    """What a config of detectron2 says."""

    settings: dict[str, Any]  # what differs from our defaults, as resdet.config.from_dict takes it
    left_out: list[str]  # what it sets besides, key by key, that has no counterpart here


class Source:
    """A config of theirs, flat, which remembers what was asked for."""

    def __init__(self, given: dict[str, Any]):
        self.given = given
        self.read: set[str] = set()
        self.left_out: list[str] = []

    def get(self, key: str) -> Any:
        self.read.add(key)
        defaults = OTHERS | {k: v for k, (v, _) in (SAME | SAME_OF_LINEAR_HEADS | SAME_OF_MASKS).items()}
        return self.given.get(key, defaults[key])

    def leave_out(self, key: str, why: str) -> None:
        self.read.add(key)
        self.left_out.append(f"{key}: {self.given[key]!r} ({why})" if why else f"{key}: {self.given[key]!r}")

    def choose(self, key: str, table: dict[str, Any]) -> Any:
        """The counterpart of a name; an unknown one is an error, since nothing could stand for it."""
        value = self.get(key)
        if value not in table:
            raise ConfigError(f"{key} is {value!r}, which has no counterpart: there are {', '.join(map(repr, table))}.")
        return table[value]

    def finish(self) -> list[str]:
        for key, value in self.given.items():
            if key not in self.read and not (key in ONLY and same(value, ONLY[key])):
                self.leave_out(key, "")
        return self.left_out


def translate(path: str | Path) -> Translation:
    """A config with its `_BASE_` files; Faster, Mask and Cascade R-CNN in the forms C4, DC5 and FPN."""
    source = Source(read(Path(path)))
    try:
        settings = nested(
            {
                "task": "detection",
                **same_keys(source, SAME),
                **model(source),
                **data(source),
                **training(source),
            }
        )
        return Translation(without_defaults(settings), source.finish())
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def same(a: Any, b: Any) -> bool:
    return configs.plain(a) == configs.plain(b)


def without_defaults(settings: dict) -> dict:
    """What differs from our defaults; names of sections stay, since they decide which keys there are."""
    wanted = configs.to_dict(configs.from_dict(settings, "the translation"))
    names = {"backbone": {"name": wanted["model"]["backbone"]["name"]}}
    plain = {"task": "detection", "model": names, "data": {"name": wanted["data"]["name"]}}
    defaults = configs.to_dict(configs.from_dict(plain))
    masks = wanted["model"]["mask"] is not None
    if masks:
        defaults["model"]["mask"] = asdict(MaskConfig())
    changed = {key: new for key, (_, new) in configs.differences(defaults, wanted).items()}
    kept = nested({"task": "detection", "model.backbone.name": names["backbone"]["name"], **changed})
    kept.setdefault("data", {})["name"] = plain["data"]["name"]
    if masks:
        kept["model"].setdefault("mask", {})
    return kept


# Translating


def same_keys(source: Source, table: dict[str, tuple[Any, str]]) -> dict[str, Any]:
    return {ours: source.get(key) for key, (_, ours) in table.items()}


def model(source: Source) -> dict[str, Any]:
    features = form(source)
    depth, norm = source.get("MODEL.RESNETS.DEPTH"), source.choose("MODEL.RESNETS.NORM", NORMS)
    if source.get("MODEL.RESNETS.RES2_OUT_CHANNELS") != (64 if depth < 50 else 256):
        source.leave_out("MODEL.RESNETS.RES2_OUT_CHANNELS", "")
    found = {
        "model.backbone.name": f"resnet{depth}",
        "model.backbone.norm": norm,
        "model.backbone.stride_in": "1x1" if source.get("MODEL.RESNETS.STRIDE_IN_1X1") else "3x3",
        "model.features": features,
        "model.neck.norm": source.choose("MODEL.FPN.NORM", NORMS),
        "model.input.resize": "pillow",
        "model.input.divisor": 32 if features == "fpn" else 1,
        **weights(source),
        **rpn(source, len(FORMS[features]["MODEL.RPN.IN_FEATURES"])),
        **box(source, features),
    }
    if source.get("MODEL.MASK_ON"):
        found |= mask(source, features)
    else:
        source.read |= {key for key in source.given if key.startswith("MODEL.ROI_MASK_HEAD.")}
    return found


def form(source: Source) -> str:
    """c4, dc5 or fpn."""
    if source.get("MODEL.META_ARCHITECTURE") != "GeneralizedRCNN":
        raise ConfigError(f"MODEL.META_ARCHITECTURE is {source.get('MODEL.META_ARCHITECTURE')}: only R-CNNs are here.")
    for features, signs in FORMS.items():
        if all(
            source.get(key) in value if key == "MODEL.ROI_HEADS.NAME" else same(source.get(key), value)
            for key, value in signs.items()
        ):
            return features
    raise ConfigError("its backbone, features and ROI_HEADS are together none of the forms C4, DC5 and FPN.")


def weights(source: Source) -> dict[str, Any]:
    """torchvision's are the same as ours; others are named, to be fetched."""
    wanted = source.get("MODEL.WEIGHTS")
    path = wanted.removeprefix("detectron2://")
    if path.startswith(TORCHVISION):
        return {"model.pretrained": "torchvision"}
    if wanted:
        file = f"fetch {ZOO}{path} and " if path != wanted else ""
        how = "name it by model.pretrained" if "ImageNetPretrained" in path else "give it by --init"
        source.leave_out("MODEL.WEIGHTS", f"{file}{how}")
    return {}


def rpn(source: Source, levels: int) -> dict[str, Any]:
    sizes, ratios = (broadcast(source.get(f"MODEL.ANCHOR_GENERATOR.{k}"), levels) for k in ("SIZES", "ASPECT_RATIOS"))
    if any(of_level != ratios[0] for of_level in ratios):
        source.leave_out("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", "those of the first level are taken for all")
    widths = source.get("MODEL.RPN.CONV_DIMS")
    if any(width != widths[0] for width in widths):
        source.leave_out("MODEL.RPN.CONV_DIMS", "the first width is taken for all")
    negative, positive = source.get("MODEL.RPN.IOU_THRESHOLDS")
    return {
        "model.rpn.anchors.sizes": None if sizes == usual_sizes(levels) else sizes,
        "model.rpn.anchors.ratios": ratios[0],
        "model.rpn.convs": len(widths),
        "model.rpn.channels": None if widths[0] == -1 else widths[0],
        "model.rpn.negative_iou": negative,
        "model.rpn.positive_iou": positive,
        "model.rpn.inside_only": source.get("MODEL.RPN.BOUNDARY_THRESH") >= 0,
        "model.rpn.min_size": source.get("MODEL.PROPOSAL_GENERATOR.MIN_SIZE") or MIN_SIZE,
        "model.rpn.pre_nms": [source.get(f"MODEL.RPN.PRE_NMS_TOPK_{mode}") for mode in ("TRAIN", "TEST")],
        "model.rpn.post_nms": [source.get(f"MODEL.RPN.POST_NMS_TOPK_{mode}") for mode in ("TRAIN", "TEST")],
    }


def usual_sizes(levels: int) -> list[list[float]]:
    """Of anchors, where no config says anything."""
    return [[32, 64, 128, 256, 512]] if levels == 1 else [[32 * 2**level] for level in range(levels)]


def broadcast(values: list, levels: int) -> list[list[float]]:
    """A list for each level, of one list for all or of a plain one."""
    if not isinstance(values[0], list):
        return [values] * levels
    return values * levels if len(values) == 1 else values


def box(source: Source, features: str) -> dict[str, Any]:
    pool, aligned = source.choose("MODEL.ROI_BOX_HEAD.POOLER_TYPE", POOLERS)
    cascade = source.get("MODEL.ROI_HEADS.NAME") == "CascadeROIHeads"
    ious = source.get("MODEL.ROI_HEADS.IOU_THRESHOLDS")
    if cascade:
        ious, weights = source.get("MODEL.ROI_BOX_CASCADE_HEAD.IOUS"), "MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS"
        if not same(source.get(weights), OTHERS[weights][: len(ious)]):
            source.leave_out(weights, "")
    losses = {kind: kind for kind in ("smooth_l1", "giou", "diou")}
    resolution = source.get("MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION")
    found = {
        "model.box.resolution": None if resolution == usual_resolution(features) else resolution,
        "model.box.pool": pool,
        "model.box.aligned": aligned,
        "model.box.canonical_size": CANONICAL,
        "model.box.ious": ious,
        "model.box.negative_iou": [0.0, ious[0]],
        "model.box.loss": source.choose("MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE", losses),
    }
    if features == "c4":  # its head is conv5_x
        return found
    norm = source.choose("MODEL.ROI_BOX_HEAD.NORM", NORMS)
    return found | same_keys(source, SAME_OF_LINEAR_HEADS) | {"model.box.norm": norm}


def usual_resolution(features: str) -> int:
    """Of pooled features, where no config says anything."""
    return 14 if features == "c4" else 7


def mask(source: Source, features: str) -> dict[str, Any]:
    pool, aligned = source.choose("MODEL.ROI_MASK_HEAD.POOLER_TYPE", POOLERS)
    if pool == "max":
        source.leave_out("MODEL.ROI_MASK_HEAD.POOLER_TYPE", "masks are pooled by RoIAlign")
    found = {
        **same_keys(source, SAME_OF_MASKS),
        "model.mask.aligned": aligned,
        "model.mask.norm": source.choose("MODEL.ROI_MASK_HEAD.NORM", NORMS),
        "model.mask.regions": int(
            source.get("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE") * source.get("MODEL.ROI_HEADS.POSITIVE_FRACTION")
        ),
    }
    if features == "c4" and source.get("MODEL.ROI_MASK_HEAD.NUM_CONV"):
        source.leave_out("MODEL.ROI_MASK_HEAD.NUM_CONV", "masks after conv5_x have none")
    return found


def data(source: Source) -> dict[str, Any]:
    shorts = source.get("INPUT.MIN_SIZE_TRAIN")
    found: dict[str, Any] = {"data.augment.min_size": shorts if isinstance(shorts, list) else [shorts]}
    flip = source.get("INPUT.RANDOM_FLIP")
    found["data.augment.flip"] = 0.5 if flip == "horizontal" else 0.0
    if flip not in ("horizontal", "none"):
        source.leave_out("INPUT.RANDOM_FLIP", "pictures are mirrored left to right alone")
    if source.get("INPUT.CROP.ENABLED"):
        found |= crop(source)
    if source.get("DATALOADER.SAMPLER_TRAIN") == "RepeatFactorTrainingSampler":
        threshold = source.get("DATALOADER.REPEAT_THRESHOLD")
        found |= {"data.sampling": "repeat_factor", "data.repeat_threshold": threshold}
    elif source.get("DATALOADER.SAMPLER_TRAIN") != "TrainingSampler":
        source.leave_out("DATALOADER.SAMPLER_TRAIN", "")
    return found | datasets(source)


def crop(source: Source) -> dict[str, Any]:
    kind, size = source.get("INPUT.CROP.TYPE"), source.get("INPUT.CROP.SIZE")
    if kind != "relative_range" or size[0] != size[1]:
        source.leave_out("INPUT.CROP.ENABLED", f"no crop here is of type {kind} and size {size}")
        return {}
    return {"data.augment.crop": 1.0, "data.augment.crop_range": [size[0], 1.0]}


def datasets(source: Source) -> dict[str, Any]:
    """COCO's and VOC's by name; of any other, data.root and the rest are the user's to say."""
    train, test = (source.get(f"DATASETS.{split}") for split in ("TRAIN", "TEST"))
    named = [*train, *test]
    if named and all(name in VOC for name in named):
        metric = "voc07" if all("2007" in name for name in test) else "voc_area"
        sets = {f"data.{split}_sets": [VOC[n] for n in names] for split, names in (("train", train), ("val", test))}
        return {"data.name": "voc", **sets, "eval.metric": metric}
    found = {"data.name": "coco"}
    for split, key, names in (("train", "DATASETS.TRAIN", train), ("val", "DATASETS.TEST", test)):
        if len(names) == 1 and names[0] in COCO:
            year, part = COCO[names[0]]
            found[f"data.{split}.images"] = f"{part}{year}"
            found[f"data.{split}.annotations"] = f"annotations/instances_{part}{year}.json"
        elif names:
            source.leave_out(key, f"say by data.{split} where the images and annotations lie")
    return found


def training(source: Source) -> dict[str, Any]:
    batch, length = source.get("SOLVER.IMS_PER_BATCH"), source.get("SOLVER.MAX_ITER")
    found = {
        "optim.name": "sgd",
        "optim.base_batch": batch,
        "train.batch": batch,
        "train.unit": "steps",
        "train.evaluate_every": source.get("TEST.EVAL_PERIOD") or length,
        "train.precision": "fp16" if source.get("SOLVER.AMP.ENABLED") else "fp32",
        **schedule(source, length),
    }
    if source.get("TEST.PRECISE_BN.ENABLED"):
        found["train.exact_statistics"] = source.get("TEST.PRECISE_BN.NUM_ITER") * batch
    return found


def schedule(source: Source, length: int) -> dict[str, Any]:
    kinds = {"WarmupMultiStepLR": "step", "WarmupCosineLR": "cosine"}
    name = source.choose("SOLVER.LR_SCHEDULER_NAME", kinds)
    steps = [step for step in source.get("SOLVER.STEPS") if step <= length]
    if name == "step":
        return {"schedule.name": name, "schedule.milestones": steps}
    return {"schedule.name": name, "schedule.final": source.get("SOLVER.BASE_LR_END") / source.get("SOLVER.BASE_LR")}
