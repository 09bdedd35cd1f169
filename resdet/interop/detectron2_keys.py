"""detectron2's config keys: those with a counterpart, those with one supported value, and their defaults."""

from typing import Any

SAME: dict[str, tuple[Any, str]] = {  # key -> (default, resdet's key with the same values)
    "MODEL.BACKBONE.FREEZE_AT": (2, "model.freeze_stages"),
    "MODEL.ROI_HEADS.NUM_CLASSES": (80, "model.num_classes"),
    "MODEL.FPN.OUT_CHANNELS": (256, "model.neck.width"),
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": (256, "model.rpn.batch_per_image"),
    "MODEL.RPN.POSITIVE_FRACTION": (0.5, "model.rpn.positive_fraction"),
    "MODEL.RPN.SMOOTH_L1_BETA": (0.0, "model.rpn.beta"),
    "MODEL.RPN.NMS_THRESH": (0.7, "model.rpn.nms"),
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": (512, "model.box.batch_per_image"),
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": (0.25, "model.box.positive_fraction"),
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": (0.05, "model.box.score"),
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": (0.5, "model.box.nms"),
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": (14, "model.box.resolution"),
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": (0, "model.box.sampling"),
    "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": (False, "model.box.class_agnostic"),
    "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": (0.0, "model.box.beta"),
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT": (1.0, "model.box.loss_weight"),
    "TEST.DETECTIONS_PER_IMAGE": (100, "model.box.detections"),
    "INPUT.MIN_SIZE_TEST": (800, "model.input.min_size"),
    "INPUT.MAX_SIZE_TEST": (1333, "model.input.max_size"),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": ("choice", "data.augment.min_size_sampling"),
    "INPUT.MAX_SIZE_TRAIN": (1333, "data.augment.max_size"),
    "SOLVER.BASE_LR": (0.001, "optim.lr"),
    "SOLVER.MOMENTUM": (0.9, "optim.momentum"),
    "SOLVER.NESTEROV": (False, "optim.nesterov"),
    "SOLVER.WEIGHT_DECAY": (1e-4, "optim.weight_decay"),
    "SOLVER.GAMMA": (0.1, "schedule.gamma"),
    "SOLVER.WARMUP_ITERS": (1000, "schedule.warmup"),
    "SOLVER.MAX_ITER": (40000, "train.length"),
    "SOLVER.CHECKPOINT_PERIOD": (5000, "train.checkpoint_every"),
}
SAME_OF_LINEAR_HEADS: dict[str, tuple[Any, str]] = {  # for box heads other than conv5_x
    "MODEL.ROI_BOX_HEAD.NUM_FC": (0, "model.box.linears"),
    "MODEL.ROI_BOX_HEAD.FC_DIM": (1024, "model.box.width"),
    "MODEL.ROI_BOX_HEAD.NUM_CONV": (0, "model.box.convs"),
    "MODEL.ROI_BOX_HEAD.CONV_DIM": (256, "model.box.conv_width"),
}
SAME_OF_MASKS: dict[str, tuple[Any, str]] = {
    "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": (14, "model.mask.resolution"),
    "MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO": (0, "model.mask.sampling"),
    "MODEL.ROI_MASK_HEAD.NUM_CONV": (0, "model.mask.convs"),
    "MODEL.ROI_MASK_HEAD.CONV_DIM": (256, "model.mask.width"),
}
SAME_OF_KEYPOINTS: dict[str, tuple[Any, str]] = {
    "MODEL.ROI_KEYPOINT_HEAD.POOLER_RESOLUTION": (14, "model.keypoint.resolution"),
    "MODEL.ROI_KEYPOINT_HEAD.POOLER_SAMPLING_RATIO": (0, "model.keypoint.sampling"),
    "MODEL.ROI_KEYPOINT_HEAD.LOSS_WEIGHT": (1.0, "model.keypoint.loss_weight"),
}

OTHERS: dict[str, Any] = {  # key that detectron2_config.py translates individually -> default
    "MODEL.META_ARCHITECTURE": "GeneralizedRCNN",
    "MODEL.BACKBONE.NAME": "build_resnet_backbone",
    "MODEL.MASK_ON": False,
    "MODEL.KEYPOINT_ON": False,
    "MODEL.WEIGHTS": "",
    "MODEL.RESNETS.DEPTH": 50,
    "MODEL.RESNETS.NORM": "FrozenBN",
    "MODEL.RESNETS.STRIDE_IN_1X1": True,
    "MODEL.RESNETS.RES5_DILATION": 1,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 256,
    "MODEL.RESNETS.OUT_FEATURES": ["res4"],
    "MODEL.FPN.IN_FEATURES": [],
    "MODEL.FPN.NORM": "",
    "MODEL.PROPOSAL_GENERATOR.MIN_SIZE": 0,
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32, 64, 128, 256, 512]],
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [[0.5, 1.0, 2.0]],
    "MODEL.RPN.IN_FEATURES": ["res4"],
    "MODEL.RPN.BOUNDARY_THRESH": -1,
    "MODEL.RPN.IOU_THRESHOLDS": [0.3, 0.7],
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 12000,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 6000,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 2000,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 1000,
    "MODEL.RPN.CONV_DIMS": [-1],
    "MODEL.ROI_HEADS.NAME": "Res5ROIHeads",
    "MODEL.ROI_HEADS.IN_FEATURES": ["res4"],
    "MODEL.ROI_HEADS.IOU_THRESHOLDS": [0.5],
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIAlignV2",
    "MODEL.ROI_BOX_HEAD.NORM": "",
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE": "smooth_l1",
    "MODEL.ROI_BOX_CASCADE_HEAD.IOUS": [0.5, 0.6, 0.7],
    "MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS": [[10, 10, 5, 5], [20, 20, 10, 10], [30, 30, 15, 15]],
    "MODEL.ROI_MASK_HEAD.POOLER_TYPE": "ROIAlignV2",
    "MODEL.ROI_MASK_HEAD.NORM": "",
    "MODEL.ROI_KEYPOINT_HEAD.POOLER_TYPE": "ROIAlignV2",
    "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS": [512] * 8,
    "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS": 17,
    "INPUT.MIN_SIZE_TRAIN": [800],
    "INPUT.RANDOM_FLIP": "horizontal",
    "INPUT.CROP.ENABLED": False,
    "INPUT.CROP.TYPE": "relative_range",
    "INPUT.CROP.SIZE": [0.9, 0.9],
    "DATASETS.TRAIN": [],
    "DATASETS.TEST": [],
    "DATALOADER.SAMPLER_TRAIN": "TrainingSampler",
    "DATALOADER.REPEAT_THRESHOLD": 0.0,
    "DATALOADER.NUM_WORKERS": 4,
    "SOLVER.IMS_PER_BATCH": 16,
    "SOLVER.LR_SCHEDULER_NAME": "WarmupMultiStepLR",
    "SOLVER.STEPS": [30000],
    "SOLVER.BASE_LR_END": 0.0,
    "SOLVER.AMP.ENABLED": False,
    "TEST.EVAL_PERIOD": 0,
    "TEST.PRECISE_BN.ENABLED": False,
    "TEST.PRECISE_BN.NUM_ITER": 200,
    "TEST.KEYPOINT_OKS_SIGMAS": [],
    "SEED": -1,  # a random one
}

DEFAULTS = OTHERS | {
    key: value for key, (value, _) in (SAME | SAME_OF_LINEAR_HEADS | SAME_OF_MASKS | SAME_OF_KEYPOINTS).items()
}

ONLY: dict[str, Any] = {  # key -> the only supported value
    "VERSION": 2,
    "INPUT.FORMAT": "BGR",  # images are RGB in resdet; weights are permuted when loaded
    "MODEL.LOAD_PROPOSALS": False,
    "MODEL.FPN.FUSE_TYPE": "sum",
    "MODEL.RESNETS.NUM_GROUPS": 1,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 64,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 64,
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE": [False, False, False, False],
    "MODEL.RESNETS.DEFORM_MODULATED": False,
    "MODEL.PROPOSAL_GENERATOR.NAME": "RPN",
    "MODEL.ANCHOR_GENERATOR.NAME": "DefaultAnchorGenerator",
    "MODEL.ANCHOR_GENERATOR.OFFSET": 0.0,
    "MODEL.RPN.HEAD_NAME": "StandardRPNHead",
    "MODEL.RPN.IOU_LABELS": [0, -1, 1],
    "MODEL.RPN.BBOX_REG_LOSS_TYPE": "smooth_l1",
    "MODEL.RPN.BBOX_REG_LOSS_WEIGHT": 1.0,
    "MODEL.RPN.BBOX_REG_WEIGHTS": [1.0, 1.0, 1.0, 1.0],
    "MODEL.RPN.LOSS_WEIGHT": 1.0,
    "MODEL.ROI_HEADS.IOU_LABELS": [0, 1],
    "MODEL.ROI_HEADS.PROPOSAL_APPEND_GT": True,
    "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
    "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": [10.0, 10.0, 5.0, 5.0],
    "MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES": False,
    "MODEL.ROI_MASK_HEAD.NAME": "MaskRCNNConvUpsampleHead",
    "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK": False,
    "MODEL.ROI_KEYPOINT_HEAD.NAME": "KRCNNConvDeconvUpsampleHead",
    "MODEL.ROI_KEYPOINT_HEAD.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS": True,
    "MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE": 1,
    "DATALOADER.ASPECT_RATIO_GROUPING": True,
    "DATALOADER.FILTER_EMPTY_ANNOTATIONS": False,
    "SOLVER.WARMUP_FACTOR": 0.001,
    "SOLVER.WARMUP_METHOD": "linear",
    "SOLVER.BIAS_LR_FACTOR": 1.0,
    "SOLVER.CLIP_GRADIENTS.ENABLED": False,  # detectron2 clips values or tensors, resdet the norm of all gradients
    "TEST.AUG.ENABLED": False,
}

CANONICAL = 224.0  # side of an RoI on p4 (FPN, equation 1); detectron2 has no key for it
NORMS = {"": None, "FrozenBN": "frozen", "BN": "bn", "SyncBN": "sync", "nnSyncBN": "sync", "GN": "gn"}
POOLERS = {"ROIAlignV2": ("align", True), "ROIAlign": ("align", False), "ROIPool": ("max", True)}

PYRAMID = ["res2", "res3", "res4", "res5"]
FORMS: dict[str, dict[str, Any]] = {  # features -> keys that define them
    "c4": {
        "MODEL.BACKBONE.NAME": "build_resnet_backbone",
        "MODEL.ROI_HEADS.NAME": ["Res5ROIHeads"],
        "MODEL.RESNETS.OUT_FEATURES": ["res4"],
        "MODEL.RESNETS.RES5_DILATION": 1,
        "MODEL.RPN.IN_FEATURES": ["res4"],
        "MODEL.ROI_HEADS.IN_FEATURES": ["res4"],
    },
    "dc5": {
        "MODEL.BACKBONE.NAME": "build_resnet_backbone",
        "MODEL.ROI_HEADS.NAME": ["StandardROIHeads", "CascadeROIHeads"],
        "MODEL.RESNETS.OUT_FEATURES": ["res5"],
        "MODEL.RESNETS.RES5_DILATION": 2,
        "MODEL.RPN.IN_FEATURES": ["res5"],
        "MODEL.ROI_HEADS.IN_FEATURES": ["res5"],
    },
    "fpn": {
        "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
        "MODEL.ROI_HEADS.NAME": ["StandardROIHeads", "CascadeROIHeads"],
        "MODEL.RESNETS.OUT_FEATURES": PYRAMID,
        "MODEL.RESNETS.RES5_DILATION": 1,
        "MODEL.FPN.IN_FEATURES": PYRAMID,
        "MODEL.RPN.IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
        "MODEL.ROI_HEADS.IN_FEATURES": ["p2", "p3", "p4", "p5"],
    },
}

COCO = {  # data set -> images and annotations
    f"{name}_{year}_{split}": (f"{split}{year}", f"annotations/{kind}_{split}{year}.json")
    for name, kind in (("coco", "instances"), ("keypoints_coco", "person_keypoints"))
    for year in (2014, 2017)
    for split in ("train", "val")
}
VOC = {
    f"voc_{year}_{split}": f"{year}_{split}" for year in (2007, 2012) for split in ("train", "val", "trainval", "test")
}
