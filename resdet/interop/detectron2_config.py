"""Translates detectron2's YAML configs; detectron2 need not be installed.

    translation = translate("COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml")
    experiment = resdet.config.from_dict(translation.settings)

Two behaviors of detectron2 have no key and are not translated: it skips training images without objects, and applies
no weight decay to norms.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from resdet import config as configs
from resdet.detection.heads.config import KeypointConfig, MaskConfig
from resdet.errors import ConfigError
from resdet.interop.detectron2_keys import (
    CANONICAL,
    COCO,
    DEFAULTS,
    FORMS,
    NORMS,
    ONLY,
    POOLERS,
    SAME,
    SAME_OF_KEYPOINTS,
    SAME_OF_LINEAR_HEADS,
    SAME_OF_MASKS,
    VOC,
)
from resdet.interop.detectron2_yaml import nested, read
from resdet.weights import coco_keypoints

SECTIONS = {key.partition(".")[0] for key in (*DEFAULTS, *ONLY)}
MIN_SIZE = 1e-6  # pixels; detectron2's 0 removes proposals without area
ZOO = "https://dl.fbaipublicfiles.com/detectron2/"
TORCHVISION = "ImageNetPretrained/torchvision/R-"


@dataclass
class Translation:
    """A translated config."""

    settings: dict[str, Any]  # input of resdet.config.from_dict, without defaults
    left_out: list[str]  # keys of detectron2 without a counterpart


class Source:
    """A flat detectron2 config that records which keys are read."""

    def __init__(self, given: dict[str, Any]):
        self.given = given
        self.read: set[str] = set()
        self.left_out: list[str] = []

    def get(self, key: str) -> Any:
        self.read.add(key)
        return self.given.get(key, DEFAULTS[key])

    def leave_out(self, key: str, why: str) -> None:
        value = self.get(key) if key in DEFAULTS else self.given[key]
        self.read.add(key)
        self.left_out.append(f"{key}: {value!r} ({why})" if why else f"{key}: {value!r}")

    def choose(self, key: str, table: dict[str, Any]) -> Any:
        """Returns the counterpart of a name; raises a ConfigError if there is none."""
        value = self.get(key)
        if value not in table:
            raise ConfigError(f"{key} is {value!r}, which is not supported: use one of {', '.join(map(repr, table))}.")
        return table[value]

    def finish(self) -> list[str]:
        for key, value in self.given.items():
            if key not in self.read and not (key in ONLY and same(value, ONLY[key])):
                self.leave_out(key, "")
        return self.left_out


def translate(path: str | Path) -> Translation:
    """Translates a config and its `_BASE_` files.

    Supports Faster, Mask and Cascade R-CNN with C4, DC5 and FPN, and Keypoint R-CNN with DC5 and FPN.
    """
    given = read(Path(path))
    if not any(key.partition(".")[0] in SECTIONS for key in given):
        raise ConfigError(f"{path} has no key of detectron2 (MODEL, SOLVER, …): give a YAML config of detectron2.")
    source = Source(given)
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
    """Keeps the settings that differ from resdet's defaults, and names that determine the keys of their sections."""
    full = configs.to_dict(configs.from_dict(settings, "the translation"))
    backbone, data_name = full["model"]["backbone"]["name"], full["data"]["name"]
    names = {"task": "detection", "model": {"backbone": {"name": backbone}}, "data": {"name": data_name}}
    defaults = configs.to_dict(configs.from_dict(names))
    branches = {"mask": asdict(MaskConfig()), "keypoint": asdict(KeypointConfig())}
    given = {name: section for name, section in branches.items() if full["model"][name] is not None}
    defaults["model"] |= given
    changed = {key: new for key, (_, new) in configs.differences(defaults, full).items()}
    kept = nested({"task": "detection", "model.backbone.name": backbone, **changed})
    kept.setdefault("data", {})["name"] = data_name
    for name in given:
        kept["model"].setdefault(name, {})
    return kept


# Sections


def same_keys(source: Source, table: dict[str, tuple[Any, str]]) -> dict[str, Any]:
    """Returns the keys that have equal values in both libraries."""
    return {name: source.get(key) for key, (_, name) in table.items()}


def model(source: Source) -> dict[str, Any]:
    features = form(source)
    depth, norm = source.get("MODEL.RESNETS.DEPTH"), source.choose("MODEL.RESNETS.NORM", NORMS)
    if source.get("MODEL.RESNETS.RES2_OUT_CHANNELS") != (64 if depth < 50 else 256):
        source.leave_out("MODEL.RESNETS.RES2_OUT_CHANNELS", "")
    section = {
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
    for switch, head, branch in (("MASK_ON", "ROI_MASK_HEAD", mask), ("KEYPOINT_ON", "ROI_KEYPOINT_HEAD", keypoint)):
        if source.get(f"MODEL.{switch}"):
            section |= branch(source, features)
        else:
            source.read |= {key for key in source.given if key.startswith(f"MODEL.{head}.")}
    return section


def form(source: Source) -> str:
    """Returns c4, dc5 or fpn."""
    if source.get("MODEL.META_ARCHITECTURE") != "GeneralizedRCNN":
        raise ConfigError(
            f"MODEL.META_ARCHITECTURE is {source.get('MODEL.META_ARCHITECTURE')}: only GeneralizedRCNN is supported."
        )
    for features, keys in FORMS.items():
        if all(
            source.get(key) in value if key == "MODEL.ROI_HEADS.NAME" else same(source.get(key), value)
            for key, value in keys.items()
        ):
            return features
    raise ConfigError("backbone, features and ROI_HEADS do not match C4, DC5 or FPN: use one of these forms.")


def weights(source: Source) -> dict[str, Any]:
    """Translates torchvision's weights by name; other weights are left out, with instructions."""
    value = source.get("MODEL.WEIGHTS")
    path = value.removeprefix("detectron2://")
    if path.startswith(TORCHVISION):
        return {"model.pretrained": "torchvision"}
    if value:
        download = f"download {ZOO}{path} and " if path != value else ""
        option = "set model.pretrained to its path" if "ImageNetPretrained" in path else "give it as --init"
        source.leave_out("MODEL.WEIGHTS", f"{download}{option}")
    return {}


def rpn(source: Source, levels: int) -> dict[str, Any]:
    sizes, ratios = (broadcast(source.get(f"MODEL.ANCHOR_GENERATOR.{k}"), levels) for k in ("SIZES", "ASPECT_RATIOS"))
    if any(of_level != ratios[0] for of_level in ratios):
        source.leave_out("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", "the ratios of the first level are used for all")
    widths = conv_widths(source, "MODEL.RPN.CONV_DIMS")
    negative, positive = source.get("MODEL.RPN.IOU_THRESHOLDS")
    return {
        "model.rpn.anchors.sizes": None if sizes == default_sizes(levels) else sizes,
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


def conv_widths(source: Source, key: str) -> list[int]:
    """Returns the channels of the convolutions of a head."""
    widths = source.get(key)
    if any(width != widths[0] for width in widths):
        source.leave_out(key, "the first width is used for all")
    return widths


def default_sizes(levels: int) -> list[list[float]]:
    """Returns the default anchor sizes of each level."""
    return [[32, 64, 128, 256, 512]] if levels == 1 else [[32 * 2**level] for level in range(levels)]


def broadcast(values: list, levels: int) -> list[list[float]]:
    """Returns one list per level, from a list per level, a single list in a list, or a plain list."""
    if not isinstance(values[0], list):
        return [values] * levels
    return values * levels if len(values) == 1 else values


def box(source: Source, features: str) -> dict[str, Any]:
    pool, aligned = source.choose("MODEL.ROI_BOX_HEAD.POOLER_TYPE", POOLERS)
    cascade = source.get("MODEL.ROI_HEADS.NAME") == "CascadeROIHeads"
    ious = source.get("MODEL.ROI_HEADS.IOU_THRESHOLDS")
    if cascade:
        ious, weights = source.get("MODEL.ROI_BOX_CASCADE_HEAD.IOUS"), "MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS"
        if not same(source.get(weights), DEFAULTS[weights][: len(ious)]):
            source.leave_out(weights, "")
    losses = {kind: kind for kind in ("smooth_l1", "giou", "diou")}
    resolution = source.get("MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION")
    section = {
        "model.box.resolution": None if resolution == default_resolution(features) else resolution,
        "model.box.pool": pool,
        "model.box.aligned": aligned,
        "model.box.canonical_size": CANONICAL,
        "model.box.ious": ious,
        "model.box.negative_iou": [0.0, ious[0]],
        "model.box.loss": source.choose("MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE", losses),
    }
    if features == "c4":  # the head is conv5_x
        return section
    norm = source.choose("MODEL.ROI_BOX_HEAD.NORM", NORMS)
    return section | same_keys(source, SAME_OF_LINEAR_HEADS) | {"model.box.norm": norm}


def default_resolution(features: str) -> int:
    """Returns the default size of pooled features."""
    return 14 if features == "c4" else 7


def mask(source: Source, features: str) -> dict[str, Any]:
    aligned = branch_pooler(source, "MODEL.ROI_MASK_HEAD.POOLER_TYPE", "masks")
    section = {
        **same_keys(source, SAME_OF_MASKS),
        "model.mask.aligned": aligned,
        "model.mask.norm": source.choose("MODEL.ROI_MASK_HEAD.NORM", NORMS),
        "model.mask.regions": positives(source),
    }
    if features == "c4" and source.get("MODEL.ROI_MASK_HEAD.NUM_CONV"):
        source.leave_out("MODEL.ROI_MASK_HEAD.NUM_CONV", "the mask head after conv5_x has no convolutions")
    return section


def branch_pooler(source: Source, key: str, predictions: str) -> bool:
    """Whether RoIAlign is aligned; branches do not support RoIPool."""
    pool, aligned = source.choose(key, POOLERS)
    if pool == "max":
        source.leave_out(key, f"{predictions} are pooled by RoIAlign")
    return aligned


def positives(source: Source) -> int:
    """Returns the maximum number of positive RoIs per image; all of them contribute to the losses of the branches."""
    return int(source.get("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE") * source.get("MODEL.ROI_HEADS.POSITIVE_FRACTION"))


def keypoint(source: Source, features: str) -> dict[str, Any]:
    if features == "c4":
        raise ConfigError("MODEL.KEYPOINT_ON is True with C4, which has no keypoint head: use DC5 or FPN.")
    aligned = branch_pooler(source, "MODEL.ROI_KEYPOINT_HEAD.POOLER_TYPE", "keypoints")
    widths = conv_widths(source, "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS")
    if source.get("MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS") != len(coco_keypoints.NAMES):
        source.leave_out("MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS", "number and names are those of the data")
    return {
        **same_keys(source, SAME_OF_KEYPOINTS),
        "model.keypoint.aligned": aligned,
        "model.keypoint.convs": len(widths),
        "model.keypoint.width": widths[0] if widths else KeypointConfig.width,
        "model.keypoint.regions": positives(source),
        "eval.keypoint_sigmas": source.get("TEST.KEYPOINT_OKS_SIGMAS") or None,
    }


def data(source: Source) -> dict[str, Any]:
    shorts = source.get("INPUT.MIN_SIZE_TRAIN")
    section: dict[str, Any] = {"data.augment.min_size": shorts if isinstance(shorts, list) else [shorts]}
    flips = {kind: 0.5 if source.get("INPUT.RANDOM_FLIP") == kind else 0.0 for kind in ("horizontal", "vertical")}
    section |= {"data.augment.flip": flips["horizontal"], "data.augment.vertical_flip": flips["vertical"]}
    if source.get("INPUT.CROP.ENABLED"):
        section |= crop(source)
    if source.get("DATALOADER.SAMPLER_TRAIN") == "RepeatFactorTrainingSampler":
        threshold = source.get("DATALOADER.REPEAT_THRESHOLD")
        section |= {"data.sampling": "repeat_factor", "data.repeat_threshold": threshold}
    elif source.get("DATALOADER.SAMPLER_TRAIN") != "TrainingSampler":
        source.leave_out("DATALOADER.SAMPLER_TRAIN", "")
    if "DATALOADER.NUM_WORKERS" in source.given:  # otherwise one per core, as in resdet's configs
        section["data.workers"] = source.get("DATALOADER.NUM_WORKERS")
    return section | datasets(source)


def crop(source: Source) -> dict[str, Any]:
    kind, size = source.get("INPUT.CROP.TYPE"), source.get("INPUT.CROP.SIZE")
    if kind != "relative_range" or size[0] != size[1]:
        source.leave_out("INPUT.CROP.ENABLED", f"crops of type {kind} and size {size} are not supported")
        return {}
    return {"data.augment.crop": 1.0, "data.augment.crop_range": [size[0], 1.0]}


def datasets(source: Source) -> dict[str, Any]:
    """Translates COCO and VOC by name; users configure the files of other data sets."""
    train, test = (source.get(f"DATASETS.{split}") for split in ("TRAIN", "TEST"))
    named = [*train, *test]
    if named and all(name in VOC for name in named):
        metric = "voc07" if all("2007" in name for name in test) else "voc_area"
        sets = {f"data.{split}_sets": [VOC[n] for n in names] for split, names in (("train", train), ("val", test))}
        return {"data.name": "voc", **sets, "eval.metric": metric}
    section = {"data.name": "coco"}
    for split, key, names in (("train", "DATASETS.TRAIN", train), ("val", "DATASETS.TEST", test)):
        if len(names) == 1 and names[0] in COCO:
            section[f"data.{split}.images"], section[f"data.{split}.annotations"] = COCO[names[0]]
        elif names:
            source.leave_out(key, f"set the images and annotations in data.{split}")
    return section


def training(source: Source) -> dict[str, Any]:
    batch, length = source.get("SOLVER.IMS_PER_BATCH"), source.get("SOLVER.MAX_ITER")
    section = {
        "optim.name": "sgd",
        "optim.base_batch": batch,
        "train.batch": batch,
        "train.unit": "steps",
        "train.evaluate_every": source.get("TEST.EVAL_PERIOD") or length,
        "train.precision": "fp16" if source.get("SOLVER.AMP.ENABLED") else "fp32",
        **schedule(source, length),
    }
    if source.get("SEED") >= 0:
        section["train.seed"] = source.get("SEED")
    if source.get("TEST.PRECISE_BN.ENABLED"):
        section["train.exact_statistics"] = source.get("TEST.PRECISE_BN.NUM_ITER") * batch
    return section


def schedule(source: Source, length: int) -> dict[str, Any]:
    kinds = {"WarmupMultiStepLR": "step", "WarmupCosineLR": "cosine"}
    name = source.choose("SOLVER.LR_SCHEDULER_NAME", kinds)
    steps = [step for step in source.get("SOLVER.STEPS") if step <= length]
    if name == "step":
        return {"schedule.name": name, "schedule.milestones": steps}
    return {"schedule.name": name, "schedule.final": source.get("SOLVER.BASE_LR_END") / source.get("SOLVER.BASE_LR")}
