"""Tests the translation of detectron2's YAML configs, both written here and shipped with detectron2."""

import pytest

from resdet import config as configs
from resdet.errors import ConfigError
from resdet.interop.detectron2_config import translate

BASE = """
MODEL:
  META_ARCHITECTURE: "GeneralizedRCNN"
  BACKBONE: {NAME: "build_resnet_fpn_backbone"}
  RESNETS: {OUT_FEATURES: ["res2", "res3", "res4", "res5"]}
  FPN: {IN_FEATURES: ["res2", "res3", "res4", "res5"]}
  ANCHOR_GENERATOR: {SIZES: [[32], [64], [128], [256], [512]], ASPECT_RATIOS: [[0.5, 1.0, 2.0]]}
  RPN:
    IN_FEATURES: ["p2", "p3", "p4", "p5", "p6"]
    PRE_NMS_TOPK_TRAIN: 2000
    PRE_NMS_TOPK_TEST: 1000
    POST_NMS_TOPK_TRAIN: 1000
  ROI_HEADS: {NAME: "StandardROIHeads", IN_FEATURES: ["p2", "p3", "p4", "p5"]}
  ROI_BOX_HEAD: {NAME: "FastRCNNConvFCHead", NUM_FC: 2, POOLER_RESOLUTION: 7}
  ROI_MASK_HEAD: {NAME: "MaskRCNNConvUpsampleHead", NUM_CONV: 4, POOLER_RESOLUTION: 14}
DATASETS: {TRAIN: ("coco_2017_train",), TEST: ("coco_2017_val",)}
SOLVER: {IMS_PER_BATCH: 16, BASE_LR: 0.02, STEPS: "(60000, 80000)", MAX_ITER: 90000}
INPUT: {MIN_SIZE_TRAIN: "(640, 800)"}
VERSION: 2
"""
C4 = """
MODEL: {ROI_HEADS: {NAME: "Res5ROIHeads"}, RPN: {PRE_NMS_TOPK_TEST: 6000}, MASK_ON: True}
SOLVER: {STEPS: (3, 4), MAX_ITER: 5}
"""
DC5 = """
MODEL:
  RESNETS: {OUT_FEATURES: ["res5"], RES5_DILATION: 2, DEPTH: 101}
  RPN: {IN_FEATURES: ["res5"]}
  ROI_HEADS: {NAME: "StandardROIHeads", IN_FEATURES: ["res5"]}
  ROI_BOX_HEAD: {NAME: "FastRCNNConvFCHead", NUM_FC: 2, POOLER_RESOLUTION: 7}
"""


@pytest.fixture
def write(tmp_path):
    """Writes a YAML file beside base.yaml, and returns its path."""
    # A tuple within braces is invalid YAML; in detectron2's files each tuple is on a separate line.
    (tmp_path / "base.yaml").write_text(
        BASE.replace('("coco_2017_train",)', "\"('coco_2017_train',)\"").replace(
            '("coco_2017_val",)', "\"('coco_2017_val',)\""
        )
    )

    def write(text: str, name: str = "a.yaml"):
        path = tmp_path / name
        path.write_text(text.replace("(3, 4)", '"(3, 4)"'))
        return path

    return write


def experiment(path):
    return configs.from_dict(translate(path).settings)


def test_faster_rcnn_with_fpn(write):
    found = translate(write("_BASE_: base.yaml\nMODEL: {RESNETS: {DEPTH: 101}}\n"))
    assert found.left_out == []
    assert found.settings == {
        "task": "detection",
        "model": {
            "backbone": {"name": "resnet101", "norm": "frozen", "stride_in": "1x1"},
            "num_classes": 80,
            "freeze_stages": 2,
            "rpn": {"beta": 0.0, "min_size": 1e-6},
            "box": {"sampling": 0, "beta": 0.0},
            "input": {"resize": "pillow"},
        },
        "data": {"name": "coco", "augment": {"min_size": [640, 800]}},
        "optim": {"lr": 0.02, "base_batch": 16},
        "schedule": {"milestones": [60000, 80000], "warmup": 1000},
        "train": {
            "unit": "steps",
            "length": 90000,
            "batch": 16,
            "precision": "fp32",
            "evaluate_every": 90000,
            "checkpoint_every": 5000,
        },
    }


def test_masks_and_a_cascade(write):
    path = write(
        "_BASE_: base.yaml\nMODEL: {MASK_ON: True, ROI_HEADS: {NAME: CascadeROIHeads}, "
        "ROI_BOX_HEAD: {CLS_AGNOSTIC_BBOX_REG: True}, ROI_MASK_HEAD: {NUM_CONV: 8, NORM: GN}}\n"
    )
    model = experiment(path).model
    assert model.box.ious == [0.5, 0.6, 0.7] and model.box.class_agnostic and model.box.negative_iou == (0, 0.5)
    assert (model.mask.convs, model.mask.norm, model.mask.sampling) == (8, "gn", 0)
    plain = translate(write("_BASE_: base.yaml\nMODEL: {MASK_ON: True}\n", "b.yaml")).settings
    assert plain["model"]["mask"] == {"sampling": 0, "regions": 128}


def test_keypoints(write):
    """Translates the zoo's Base-Keypoint-RCNN-FPN.yaml, and compares it with coco_keypoint_r50_fpn.yaml."""
    zoo = (
        "MODEL: {KEYPOINT_ON: True, ROI_HEADS: {NUM_CLASSES: 1}, ROI_BOX_HEAD: {SMOOTH_L1_BETA: 0.5}, "
        "RPN: {POST_NMS_TOPK_TRAIN: 1500}}\n"
        "DATASETS: {TRAIN: [keypoints_coco_2017_train], TEST: [keypoints_coco_2017_val]}"
    )
    found = translate(write(f"_BASE_: base.yaml\n{zoo}\n"))
    assert found.left_out == [] and found.settings["model"]["keypoint"] == {"sampling": 0, "regions": 128}
    theirs, ours = configs.from_dict(found.settings), configs.load("coco_keypoint_r50_fpn.yaml")
    assert (theirs.data.train, theirs.data.val) == (ours.data.train, ours.data.val)
    assert (theirs.model.num_classes, theirs.model.rpn.post_nms) == (ours.model.num_classes, ours.model.rpn.post_nms)
    text = (
        "MODEL: {KEYPOINT_ON: True, ROI_KEYPOINT_HEAD: {CONV_DIMS: [64, 64], POOLER_RESOLUTION: 7, LOSS_WEIGHT: 2.0, "
        "POOLER_TYPE: ROIAlign}}\nTEST: {KEYPOINT_OKS_SIGMAS: [0.1, 0.2]}"
    )
    own = experiment(write(f"_BASE_: base.yaml\n{text}\n"))
    keypoint = own.model.keypoint
    assert (keypoint.convs, keypoint.width, keypoint.resolution, keypoint.loss_weight) == (2, 64, 7, 2.0)
    assert not keypoint.aligned and own.eval.keypoint_sigmas == [0.1, 0.2]


def test_c4(write):
    found = translate(write(C4))
    model = configs.from_dict(found.settings).model
    assert (model.features, model.rpn.pre_nms, model.rpn.post_nms) == ("c4", (12000, 6000), (2000, 1000))
    assert (model.box.resolution, model.mask.sampling, model.input.divisor) == (None, 0, 1)
    assert found.settings["schedule"]["milestones"] == [3, 4] and found.left_out == []
    (listed,) = translate(write(C4.replace("MASK_ON", "ROI_MASK_HEAD: {NUM_CONV: 4}, MASK_ON"))).left_out
    assert listed.startswith("MODEL.ROI_MASK_HEAD.NUM_CONV: 4 (")


def test_dc5(write):
    model = experiment(write(DC5)).model
    assert (model.features, model.backbone.name, model.box.linears) == ("dc5", "resnet101", 2)
    assert model.mask is None and model.input.divisor == 1 and model.box.resolution is None


@pytest.mark.parametrize(
    "text, key, value",
    [
        ("MODEL: {RESNETS: {NORM: GN, STRIDE_IN_1X1: False}}", "model.backbone.norm", "gn"),
        ("MODEL: {RESNETS: {STRIDE_IN_1X1: False}}", "model.backbone.stride_in", "3x3"),
        ("MODEL: {FPN: {OUT_CHANNELS: 128}}", "model.neck.width", 128),
        ("VERSION: 2", "model.box.canonical_size", 224),
        ("MODEL: {FPN: {NORM: SyncBN}}", "model.neck.norm", "sync"),
        ("MODEL: {ANCHOR_GENERATOR: {SIZES: [[8], [16], [32], [64], [128]]}}", "model.rpn.anchors.sizes.0", [8]),
        ("MODEL: {ANCHOR_GENERATOR: {SIZES: [[16]]}}", "model.rpn.anchors.sizes.4", [16]),
        ("MODEL: {ANCHOR_GENERATOR: {ASPECT_RATIOS: [[0.3, 1]]}}", "model.rpn.anchors.ratios", [0.3, 1]),
        ("MODEL: {RPN: {CONV_DIMS: [-1, -1]}}", "model.rpn.convs", 2),
        ("MODEL: {RPN: {CONV_DIMS: [64]}}", "model.rpn.channels", 64),
        ("MODEL: {RPN: {IOU_THRESHOLDS: [0.2, 0.6]}}", "model.rpn.negative_iou", 0.2),
        ("MODEL: {RPN: {BOUNDARY_THRESH: 0}}", "model.rpn.inside_only", True),
        ("MODEL: {PROPOSAL_GENERATOR: {MIN_SIZE: 3}}", "model.rpn.min_size", 3),
        ("MODEL: {ROI_BOX_HEAD: {POOLER_TYPE: ROIAlign}}", "model.box.aligned", False),
        ("MODEL: {ROI_BOX_HEAD: {BBOX_REG_LOSS_TYPE: giou}}", "model.box.loss", "giou"),
        ("MODEL: {ROI_HEADS: {IOU_THRESHOLDS: [0.6]}}", "model.box.ious", [0.6]),
        ("MODEL: {ROI_HEADS: {IOU_THRESHOLDS: [0.6]}}", "model.box.negative_iou", (0.0, 0.6)),
        ("TEST: {DETECTIONS_PER_IMAGE: 300}", "model.box.detections", 300),
        ("TEST: {EVAL_PERIOD: 500}", "train.evaluate_every", 500),
        ("TEST: {PRECISE_BN: {ENABLED: True}}", "train.exact_statistics", 200 * 16),
        ("INPUT: {MIN_SIZE_TEST: 600}", "model.input.min_size", 600),
        ("INPUT: {MIN_SIZE_TRAIN_SAMPLING: range}", "data.augment.min_size_sampling", "range"),
        ("INPUT: {RANDOM_FLIP: none}", "data.augment.flip", 0),
        ("INPUT: {RANDOM_FLIP: vertical}", "data.augment.flip", 0),
        ("INPUT: {RANDOM_FLIP: vertical}", "data.augment.vertical_flip", 0.5),
        ("INPUT: {CROP: {ENABLED: True, SIZE: [0.8, 0.8]}}", "data.augment.crop_range", (0.8, 1.0)),
        ("SOLVER: {LR_SCHEDULER_NAME: WarmupCosineLR, BASE_LR_END: 0.002}", "schedule.final", 0.1),
        ("SOLVER: {AMP: {ENABLED: True}}", "train.precision", "fp16"),
        ("SOLVER: {WEIGHT_DECAY: 1e-5}", "optim.weight_decay", 1e-5),
        ("SOLVER: {STEPS: [60000, 99999]}", "schedule.milestones", [60000]),
        (
            "DATALOADER: {SAMPLER_TRAIN: RepeatFactorTrainingSampler, REPEAT_THRESHOLD: 0.01}",
            "data.repeat_threshold",
            0.01,
        ),
        ("DATALOADER: {NUM_WORKERS: 2}", "data.workers", 2),
        ("DATALOADER: {FILTER_EMPTY_ANNOTATIONS: False}", "data.negatives", 0.0),  # what resdet does
        ("SEED: 42", "train.seed", 42),
        ("SEED: -1", "train.seed", 0),
        ("DATASETS: {TRAIN: [coco_2014_train]}", "data.train.annotations", "annotations/instances_train2014.json"),
        ("MODEL: {WEIGHTS: 'detectron2://ImageNetPretrained/torchvision/R-50.pkl'}", "model.pretrained", "torchvision"),
    ],
)
def test_one_key(write, text, key, value):
    found = translate(write(f"_BASE_: base.yaml\n{text}\n"))
    place = configs.from_dict(found.settings)
    for part in key.split("."):
        place = place[int(part)] if part.isdigit() else getattr(place, part)
    assert place == value and found.left_out == []


def test_voc(write):
    text = "DATASETS: {TRAIN: [voc_2007_trainval, voc_2012_trainval], TEST: [voc_2007_test]}"
    found = experiment(write(f"_BASE_: base.yaml\n{text}\nMODEL: {{ROI_HEADS: {{NUM_CLASSES: 20}}}}\n"))
    assert (found.data.name, found.data.val_sets, found.eval.metric) == ("voc", ["2007_test"], "voc07")
    assert found.data.train_sets == ["2007_trainval", "2012_trainval"] and found.model.num_classes == 20
    later = experiment(write(f"_BASE_: base.yaml\n{text.replace('_test]', '_test, voc_2012_val]')}\n"))
    assert later.eval.metric == "voc_area"


@pytest.mark.parametrize(
    "text, listed",
    [
        ("MODEL: {RESNETS: {DEFORM_ON_PER_STAGE: [False, True, True, True]}}", "MODEL.RESNETS.DEFORM_ON_PER_STAGE: [F"),
        ("MODEL: {RESNETS: {NUM_GROUPS: 32}}", "MODEL.RESNETS.NUM_GROUPS: 32"),
        ("MODEL: {PIXEL_STD: [57.375, 57.12, 58.395]}", "MODEL.PIXEL_STD: [57.375, 57.12, 58.395]"),
        ("MODEL: {RPN: {BBOX_REG_LOSS_TYPE: giou}}", "MODEL.RPN.BBOX_REG_LOSS_TYPE: 'giou'"),
        ("MODEL: {ANCHOR_GENERATOR: {OFFSET: 0.5}}", "MODEL.ANCHOR_GENERATOR.OFFSET: 0.5"),
        (
            "MODEL: {KEYPOINT_ON: True, ROI_KEYPOINT_HEAD: {NUM_KEYPOINTS: 5}}",
            "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS: 5",
        ),
        (
            "MODEL: {KEYPOINT_ON: True, ROI_KEYPOINT_HEAD: {CONV_DIMS: [64, 32]}}",
            "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS: [64, 32] (the first width",
        ),
        (
            "MODEL: {KEYPOINT_ON: True, ROI_KEYPOINT_HEAD: {POOLER_TYPE: ROIPool}}",
            "MODEL.ROI_KEYPOINT_HEAD.POOLER_TYPE: 'ROIPool'",
        ),
        ("MODEL: {RPN: {CONV_DIMS: [64, 32]}}", "MODEL.RPN.CONV_DIMS: [64, 32] (the first width"),
        ("MODEL: {WEIGHTS: 'detectron2://ImageNetPretrained/MSRA/R-50.pkl'}", "model.pretrained"),
        ("MODEL: {WEIGHTS: 'detectron2://COCO-Detection/a/1/model_final_2.pkl'}", "--init"),
        ("MODEL: {MASK_ON: True, ROI_MASK_HEAD: {CLS_AGNOSTIC_MASK: True}}", "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK"),
        ("INPUT: {CROP: {ENABLED: True, TYPE: absolute, SIZE: [300, 300]}}", "INPUT.CROP.ENABLED: True"),
        ("INPUT: {CROP: {ENABLED: True, SIZE: [0.5, 0.9]}}", "INPUT.CROP.ENABLED: True"),
        ("SOLVER: {WARMUP_FACTOR: 0.3}", "SOLVER.WARMUP_FACTOR: 0.3"),
        ("SOLVER: {CLIP_GRADIENTS: {ENABLED: True}}", "SOLVER.CLIP_GRADIENTS.ENABLED: True"),
        ("DATASETS: {TRAIN: [mine]}", "DATASETS.TRAIN: ['mine'] (set the images and annotations in data.train"),
        ("SOMETHING: {NEW: 1}", "SOMETHING.NEW: 1"),
        ("MODEL: {RESNETS: {DEPTH: 18}}", "MODEL.RESNETS.RES2_OUT_CHANNELS: 256"),
        (
            "MODEL: {ROI_HEADS: {NAME: CascadeROIHeads}, ROI_BOX_HEAD: {CLS_AGNOSTIC_BBOX_REG: True}, "
            "ROI_BOX_CASCADE_HEAD: {IOUS: [0.5, 0.6]}}",
            "MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS: [[10, 10, 5, 5], ",
        ),
    ],
)
def test_keys_without_a_counterpart_are_listed(write, text, listed):
    found = translate(write(f"_BASE_: base.yaml\n{text}\n"))
    assert len(found.left_out) == 1 and listed in found.left_out[0]
    configs.from_dict(found.settings)


def test_later_bases_replace_keys_of_earlier_ones(write):
    for number in (1, 2):
        write(f"SEED: {number}\nSOLVER: {{GAMMA: 0.{number}}}\n", f"{number}.yaml")
    found = experiment(write("_BASE_: [1.yaml, base.yaml, 2.yaml]\nSOLVER: {GAMMA: 0.5}\n"))
    assert (found.train.seed, found.schedule.gamma, found.optim.lr) == (2, 0.5, 0.02)


@pytest.mark.parametrize(
    "text", ["", "task: detection\nmodel: {box: {nms: 0.6}}", "A: 1", "Models: [{Name: mask-rcnn}]"]
)
def test_files_without_a_key_of_detectron2_are_refused(write, text):
    with pytest.raises(ConfigError, match="a.yaml has no key of detectron2"):
        translate(write(text))


@pytest.mark.parametrize("text", ["VERSION: 2", "SOLVER: {MAX_ITER: 5}", "MODEL.RPN.NMS_THRESH: 0.6"])
def test_one_key_makes_a_config_of_detectron2(write, text):
    assert translate(write(text)).left_out == []


@pytest.mark.parametrize(
    "text, message",
    [
        ("MODEL: {META_ARCHITECTURE: RetinaNet}", "META_ARCHITECTURE is RetinaNet"),
        ("MODEL: {BACKBONE: {NAME: build_mine}}", "do not match C4"),
        ("MODEL: {RESNETS: {NORM: Mine}}", "MODEL.RESNETS.NORM is 'Mine'"),
        ("MODEL: {ROI_BOX_HEAD: {POOLER_TYPE: ROIAlignRotated}}", "POOLER_TYPE is 'ROIAlignRotated'"),
        ("- a", "a mapping of sections"),
        ("A: [", "not YAML"),
        ("A: !!python/object/apply:eval ['1']", "the tag !!python"),
        ("_BASE_: a.yaml", "form a cycle"),
        ("_BASE_: nowhere.yaml", "nowhere.yaml: no such file"),
    ],
)
def test_errors_name_the_file_and_the_key(write, text, message):
    base = "" if text.startswith(("_BASE_", "-", "A:")) else "_BASE_: base.yaml\n"
    with pytest.raises(ConfigError, match=message) as raised:
        translate(write(f"{base}{text}\n"))
    assert ".yaml" in str(raised.value)


def test_keypoints_with_c4_are_refused(write):
    with pytest.raises(ConfigError, match="KEYPOINT_ON is True with C4"):
        translate(write(C4.replace("MASK_ON", "KEYPOINT_ON")))


def test_coco_r50_fpn_has_the_zoos_schedule(write):
    """Compares coco_r50_fpn.yaml with the zoo's config for a stride in the 3×3 convolution: backbone and schedule."""
    theirs = experiment(
        write("_BASE_: base.yaml\nMODEL: {RESNETS: {STRIDE_IN_1X1: False}}\nINPUT: {MIN_SIZE_TRAIN: 800}\n")
    )
    ours = configs.load("coco_r50_fpn.yaml")
    assert (theirs.model.backbone, theirs.model.freeze_stages) == (ours.model.backbone, ours.model.freeze_stages)
    assert (theirs.optim.lr, theirs.optim.base_batch) == (ours.optim.lr, ours.optim.base_batch)
    assert (theirs.schedule.milestones, theirs.train.length) == (ours.schedule.milestones, ours.train.length)


@pytest.mark.filterwarnings("ignore")
def test_configs_shipped_with_detectron2():
    """Compares each R-CNN config with the values that detectron2 reads; others must be refused."""
    detectron2 = pytest.importorskip("detectron2", reason="detectron2 is not installed")
    from pathlib import Path

    from detectron2.config import get_cfg

    paths = sorted((Path(detectron2.__file__).parent / "model_zoo/configs").rglob("*.yaml"))
    translated = 0
    for path in paths:
        cfg = get_cfg()
        try:
            found = translate(path)
        except ConfigError as error:
            assert any(word in str(error) for word in ("META_ARCHITECTURE", "the tag !!python", "do not match C4"))
            continue
        cfg.merge_from_file(str(path))
        section, train = configs.from_dict(found.settings).model, configs.from_dict(found.settings)
        assert section.backbone.name == f"resnet{cfg.MODEL.RESNETS.DEPTH}"
        assert section.num_classes == cfg.MODEL.ROI_HEADS.NUM_CLASSES
        assert (section.mask is not None) == cfg.MODEL.MASK_ON
        assert (section.keypoint is not None) == cfg.MODEL.KEYPOINT_ON
        assert list(section.rpn.post_nms) == [cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN, cfg.MODEL.RPN.POST_NMS_TOPK_TEST]
        assert section.box.sampling == cfg.MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO
        assert section.box.class_agnostic == cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG
        assert len(section.box.ious) == (3 if cfg.MODEL.ROI_HEADS.NAME == "CascadeROIHeads" else 1)
        assert (section.input.min_size, train.optim.lr) == (cfg.INPUT.MIN_SIZE_TEST, cfg.SOLVER.BASE_LR)
        assert (train.train.length, train.train.batch) == (cfg.SOLVER.MAX_ITER, cfg.SOLVER.IMS_PER_BATCH)
        translated += 1
    assert translated > 30
