"""All trainings for the tables and figures. The paper does not name all nets of its ensembles."""

from resdet.reproduce.records import Training

CIFAR_DEPTHS = (20, 32, 44, 56, 110)
LOC_R152 = ("model.backbone.name=resnet152",)
VOC12 = ("data.train_sets=[2007_trainval,2007_test,2012_trainval]", "data.val_sets=[2012_val]")
# Models for test-dev are trained on COCO train and val together: `needs.write_trainval`.
COCO_TRAINVAL = ("data.train.images=.", "data.train.annotations=annotations/instances_trainval2014.json")
DET_PLUS = ("model.box.context=true",)

CIFAR = [
    Training(f"cifar10_{kind}{depth}", f"cifar10_{kind}{depth}.yaml")
    for kind in ("plain", "resnet")
    for depth in CIFAR_DEPTHS
] + [Training("cifar10_resnet1202", "cifar10_resnet1202.yaml")]

IMAGENET = [
    Training("imagenet_plain18", "imagenet_plain18.yaml"),
    Training("imagenet_plain34", "imagenet_plain34.yaml"),
    Training("imagenet_r18", "imagenet_r18.yaml"),
    *(Training(f"imagenet_r34_{s}", "imagenet_r34.yaml", (f"model.backbone.shortcut={s.upper()}",)) for s in "abc"),
    Training("imagenet_r50", "imagenet_r50.yaml"),
    Training("imagenet_r101", "imagenet_r101.yaml"),
    Training("imagenet_r152", "imagenet_r152.yaml"),
    Training("imagenet_r152_second", "imagenet_r152.yaml", ("train.seed=1",)),
    Training("imagenet_vgg16", "imagenet_vgg16.yaml"),
]

VOC = [
    Training("voc_vgg16", "voc_vgg16.yaml"),
    Training("voc_r101", "voc_r101.yaml", start="imagenet_r101"),
    Training("voc_r101_alternating", "voc_r101_alternating.yaml", start="imagenet_r101", part="4_regions"),
    Training("voc_r101_plus", "voc_r101_plus.yaml", start="coco_r101_context_trainval"),
    Training("voc12_vgg16", "voc_vgg16.yaml", VOC12),
    Training("voc12_r101", "voc_r101.yaml", VOC12, start="imagenet_r101"),
    Training("voc12_r101_plus", "voc_r101_plus.yaml", VOC12, start="coco_r101_context_trainval"),
]

COCO = [
    Training("coco_vgg16", "coco_vgg16.yaml"),
    Training("coco_r101", "coco_r101.yaml", start="imagenet_r101"),
    Training("coco_r101_alternating", "coco_r101_alternating.yaml", start="imagenet_r101", part="4_regions"),
    Training("coco_r101_context", "coco_r101_context.yaml", start="imagenet_r101"),
    Training("coco_r101_context_trainval", "coco_r101_context.yaml", COCO_TRAINVAL, start="imagenet_r101"),
    Training(
        "coco_r101_context_trainval_second",
        "coco_r101_context.yaml",
        (*COCO_TRAINVAL, "train.seed=1"),
        start="imagenet_r101",
    ),
    Training(
        "coco_r152_context_trainval",
        "coco_r101_context.yaml",
        (*COCO_TRAINVAL, "model.backbone.name=resnet152"),
        start="imagenet_r152",
    ),
    Training("coco_mnc_r101", "coco_mnc_r101.yaml", COCO_TRAINVAL, start="imagenet_r101"),
    Training("coco_mask_r101_c4", "coco_mask_r101_c4.yaml"),
]

DET = [
    Training("ilsvrc_det_r101", "ilsvrc_det_r101.yaml", DET_PLUS, start="imagenet_r101"),
    Training("ilsvrc_det_r101_second", "ilsvrc_det_r101.yaml", (*DET_PLUS, "train.seed=1"), start="imagenet_r101"),
    Training(
        "ilsvrc_det_r152",
        "ilsvrc_det_r101.yaml",
        (*DET_PLUS, "model.backbone.name=resnet152"),
        start="imagenet_r152",
    ),
]

LOC = [
    Training("imagenet_loc_vgg16", "imagenet_loc_vgg16.yaml"),
    Training("imagenet_loc_r101", "imagenet_loc_r101.yaml", start="imagenet_r101"),
    Training("imagenet_loc_r152", "imagenet_loc_r101.yaml", LOC_R152, start="imagenet_r152"),
    Training(
        "imagenet_loc_rcnn_r101", "imagenet_loc_rcnn_r101.yaml", start="imagenet_r101", proposer="imagenet_loc_r101"
    ),
    Training(
        "imagenet_loc_rcnn_r152",
        "imagenet_loc_rcnn_r101.yaml",
        LOC_R152,
        start="imagenet_r152",
        proposer="imagenet_loc_r152",
    ),
]

TRAININGS = {training.name: training for training in (*CIFAR, *IMAGENET, *VOC, *COCO, *DET, *LOC)}
