"""Rows of Tables 1 to 14 for the paper's systems and VGG-16 baselines, Figures 1, 4, 6 and 7, and sample detections.

Other systems that the paper quotes (GoogLeNet, PReLU-net, OverFeat, …) are not run and have no rows.
"""

from functools import partial

from resdet.reproduce.records import Figure, Row

TEN_CROP = ("eval.views=ten_crop",)
DENSE = ("eval.views=dense",)
DENSE_LOC = ("eval.testing=dense",)
DENSE_CLASSES = (*DENSE_LOC, "eval.classifier_views=dense")
PLUS_SCALES = ("eval.refine=true", "eval.voting_iou=0.5", "eval.nms=0.3", "eval.scales=[200,400,600,800,1000]")
CLS_SERVER = "the ILSVRC 2012 classification server"
LOC_SERVER = "the ILSVRC 2012 localization server"
DET_SERVER = "the ILSVRC detection server"
VOC_SERVER = "the PASCAL VOC 2012 server"
COCO_SERVER = "the COCO test-dev server"
TEST_DEV = ("data.val.images=test2015", "data.val.annotations=annotations/image_info_test-dev2015.json")
VOC12_TEST = ("data.val_sets=[2012_test]",)
DET_TEST = ("data.val=test",)


def table1() -> list[Row]:
    """Multiply-adds per image, "FLOPs" in the paper."""
    billions = {18: 1.8, 34: 3.6, 50: 3.8, 101: 7.6, 152: 11.3}
    return [
        Row("table1", f"resnet{depth}", f"ResNet-{depth}", {"multiply_adds": adds}, counted=f"resnet{depth}")
        for depth, adds in billions.items()
    ]


def table2() -> list[Row]:
    """Top-1 error, 10-crop: plain nets get worse with depth, residual ones better."""
    rows = [
        ("plain18", "plain-18", 27.94, "imagenet_plain18"),
        ("resnet18", "ResNet-18", 27.88, "imagenet_r18"),
        ("plain34", "plain-34", 28.54, "imagenet_plain34"),
        ("resnet34", "ResNet-34 A", 25.03, "imagenet_r34_a"),
    ]
    return [Row("table2", name, system, {"error": error}, (net,), TEN_CROP) for name, system, error, net in rows]


def classified(table: str, test: tuple[str, ...], rows: list[tuple[str, str, float, float, str]]) -> list[Row]:
    """Returns rows of single nets, given as name, system, top-1 error, top-5 error and training."""
    return [Row(table, name, system, {"error": a, "top5_error": b}, (net,), test) for name, system, a, b, net in rows]


def table3() -> list[Row]:
    """Top-1 and top-5 error, 10-crop."""
    rows = [
        ("vgg16", "VGG-16", 28.07, 9.33, "imagenet_vgg16"),
        ("plain34", "plain-34", 28.54, 10.02, "imagenet_plain34"),
        ("resnet34a", "ResNet-34 A", 25.03, 7.76, "imagenet_r34_a"),
        ("resnet34b", "ResNet-34 B", 24.52, 7.46, "imagenet_r34_b"),
        ("resnet34c", "ResNet-34 C", 24.19, 7.40, "imagenet_r34_c"),
        ("resnet50", "ResNet-50", 22.85, 6.71, "imagenet_r50"),
        ("resnet101", "ResNet-101", 21.75, 6.05, "imagenet_r101"),
        ("resnet152", "ResNet-152", 21.43, 5.71, "imagenet_r152"),
    ]
    return classified("table3", TEN_CROP, rows)


def table4() -> list[Row]:
    """Single models, fully convolutional at five scales."""
    rows = [
        ("resnet34b", "ResNet-34 B", 21.84, 5.71, "imagenet_r34_b"),
        ("resnet34c", "ResNet-34 C", 21.53, 5.60, "imagenet_r34_c"),
        ("resnet50", "ResNet-50", 20.74, 5.25, "imagenet_r50"),
        ("resnet101", "ResNet-101", 19.87, 4.60, "imagenet_r101"),
        ("resnet152", "ResNet-152", 19.38, 4.49, "imagenet_r152"),
    ]
    return classified("table4", DENSE, rows)


def table5() -> list[Row]:
    """Six models "of different depth", two of them with 152 layers; the paper does not name the others."""
    nets = (
        "imagenet_r34_b",
        "imagenet_r34_c",
        "imagenet_r50",
        "imagenet_r101",
        "imagenet_r152",
        "imagenet_r152_second",
    )
    return [Row("table5", "ensemble", "six ResNets", {"top5_error": 3.57}, nets, DENSE, server=CLS_SERVER)]


def table6() -> list[Row]:
    """CIFAR-10 test error."""
    errors = {20: 8.75, 32: 7.51, 44: 7.17, 56: 6.97, 110: 6.43, 1202: 7.93}
    return [
        Row("table6", f"resnet{depth}", f"ResNet-{depth}", {"error": error}, (f"cifar10_resnet{depth}",))
        for depth, error in errors.items()
    ]


def table7() -> list[Row]:
    """Baseline Faster R-CNN on PASCAL VOC 2007 and 2012."""
    return [
        Row("table7", "vgg16_07", "VGG-16, VOC 07 test", {"mAP": 73.2}, ("voc_vgg16",)),
        voc12_row("table7", "vgg16_12", "VGG-16, VOC 12 test", {"mAP": 70.4}, ("voc12_vgg16",)),
        Row("table7", "resnet101_07", "ResNet-101, VOC 07 test", {"mAP": 76.4}, ("voc_r101",)),
        Row(
            "table7",
            "resnet101_07_alternating",
            "ResNet-101, four-step training",
            {"mAP": 76.4},
            ("voc_r101_alternating",),
        ),
        voc12_row("table7", "resnet101_12", "ResNet-101, VOC 12 test", {"mAP": 73.8}, ("voc12_r101",)),
    ]  # fmt: skip


voc12_row = partial(Row, test=("eval.metric=voc_area",), server=VOC_SERVER, server_data=VOC12_TEST, unseen=False)


def table8() -> list[Row]:
    """Baseline Faster R-CNN on the COCO validation set."""
    return [
        Row("table8", "vgg16", "VGG-16", {"AP50": 41.5, "AP": 21.2}, ("coco_vgg16",)),
        Row("table8", "resnet101", "ResNet-101", {"AP50": 48.4, "AP": 27.2}, ("coco_r101",)),
        Row(
            "table8", "resnet101_alternating", "ResNet-101, four-step training", {"AP50": 48.4, "AP": 27.2},
            ("coco_r101_alternating",),
        ),
    ]  # fmt: skip


def table9() -> list[Row]:
    """Improvements of appendix B, added one by one; models for test-dev are trained on train and val."""
    plus, trainval = "coco_r101_plus.yaml", "coco_r101_context_trainval"
    refined = ("eval.refine=true", "eval.nms=0.3")
    dev_row = partial(Row, server=COCO_SERVER, server_data=TEST_DEV, unseen=False)
    ensemble = (trainval, "coco_r101_context_trainval_second", "coco_r152_context_trainval")
    return [
        Row("table9", "vgg16", "VGG-16", {"AP50": 41.5, "AP": 21.2}, ("coco_vgg16",)),
        Row("table9", "resnet101", "ResNet-101", {"AP50": 48.4, "AP": 27.2}, ("coco_r101",)),
        Row("table9", "refinement", "+ box refinement", {"AP50": 49.9, "AP": 29.9}, ("coco_r101",), refined),
        Row("table9", "context", "+ context", {"AP50": 51.1, "AP": 30.0}, ("coco_r101_context",), refined),
        Row("table9", "scales", "+ multi-scale", {"AP50": 53.8, "AP": 32.5}, ("coco_r101_context",), (), plus),
        dev_row("table9", "context_dev", "+ context, test-dev", {"AP50": 53.3, "AP": 32.2}, (trainval,), refined),
        dev_row("table9", "scales_dev", "+ multi-scale, test-dev", {"AP50": 55.7, "AP": 34.9}, (trainval,), (), plus),
        dev_row("table9", "ensemble", "three nets, test-dev", {"AP50": 59.0, "AP": 37.4}, ensemble, (), plus),
    ]


def table10() -> list[Row]:
    """VOC 2007 test."""
    return [
        Row("table10", "vgg16", "VGG-16", {"mAP": 73.2}, ("voc_vgg16",)),
        Row("table10", "resnet101", "ResNet-101", {"mAP": 76.4}, ("voc_r101",)),
        Row("table10", "plus", "baseline+++", {"mAP": 85.6}, ("voc_r101_plus",)),
    ]


def table11() -> list[Row]:
    """VOC 2012 test."""
    return [
        voc12_row("table11", "vgg16", "VGG-16", {"mAP": 70.4}, ("voc12_vgg16",)),
        voc12_row("table11", "resnet101", "ResNet-101", {"mAP": 73.8}, ("voc12_r101",)),
        voc12_row("table11", "plus", "baseline+++", {"mAP": 83.8}, ("voc12_r101_plus",)),
    ]


def table12() -> list[Row]:
    """ImageNet detection on val2 and on the test server."""
    single, more = ("ilsvrc_det_r101",), ("ilsvrc_det_r101", "ilsvrc_det_r101_second", "ilsvrc_det_r152")
    server_row = partial(Row, server=DET_SERVER, server_data=DET_TEST)
    return [
        Row("table12", "single", "ResNet-101, val2", {"mAP": 60.5}, single, PLUS_SCALES),
        server_row("table12", "single_test", "ResNet-101, test", {"mAP": 58.8}, single, PLUS_SCALES),
        Row("table12", "ensemble", "three nets, val2", {"mAP": 63.6}, more, PLUS_SCALES),
        server_row("table12", "ensemble_test", "three nets, test", {"mAP": 62.1}, more, PLUS_SCALES),
    ]


def table13() -> list[Row]:
    """Localization on the validation set."""
    nets, ensemble = ("imagenet_r101",), ("imagenet_loc_rcnn_r101", "imagenet_loc_rcnn_r152")
    return [
        Row("table13", "vgg16", "VGG-16, 1-crop", {"loc_error": 33.1}, ("imagenet_loc_vgg16",)),
        Row("table13", "crop", "RPN, 1-crop", {"loc_error": 13.3}, ("imagenet_loc_r101",)),
        Row("table13", "dense", "RPN, dense", {"loc_error": 11.7}, ("imagenet_loc_r101",), DENSE_LOC),
        Row(
            "table13", "classes", "RPN, dense, predicted classes", {"top5_loc_error": 14.4, "top5_error": 4.6},
            ("imagenet_loc_r101",), DENSE_CLASSES, classifiers=nets,
        ),
        Row(
            "table13", "rcnn", "RPN + R-CNN", {"top5_loc_error": 10.6}, ("imagenet_loc_rcnn_r101",), DENSE_CLASSES,
            classifiers=nets,
        ),
        Row(
            "table13", "ensemble", "RPN + R-CNN, ensemble", {"top5_loc_error": 8.9}, ensemble, DENSE_CLASSES,
            classifiers=CLASSIFIERS,
        ),
    ]  # fmt: skip


CLASSIFIERS = ("imagenet_r101", "imagenet_r152")


def table14() -> list[Row]:
    """Localization: validation and test."""
    nets = ("imagenet_loc_rcnn_r101", "imagenet_loc_rcnn_r152")
    return [
        Row("table14", "val", "ours, val", {"top5_loc_error": 8.9}, nets, DENSE_CLASSES, classifiers=CLASSIFIERS),
        Row(
            "table14", "test", "ours, test", {"top5_loc_error": 9.0}, nets, DENSE_CLASSES, classifiers=CLASSIFIERS,
            server=LOC_SERVER,
        ),
    ]  # fmt: skip


def segmentation() -> list[Row]:
    """MNC and a modern substitute: the paper gives neither method nor metrics for its COCO segmentation entry."""
    return [
        Row(
            "segmentation", "mnc_r101", "MNC (1512.04412), ResNet-101", {"mask_AP": 24.6, "mask_AP50": 44.3},
            ("coco_mnc_r101",), ("eval.mask_voting_iou=0.5",), server=COCO_SERVER, server_data=TEST_DEV, unseen=False,
        ),
        Row("segmentation", "mask_r101_c4", "Mask R-CNN on C4 (modern substitute)", {}, ("coco_mask_r101_c4",)),
    ]  # fmt: skip


TABLES = (
    table1, table2, table3, table4, table5, table6, table7, table8, table9, table10, table11, table12, table13, table14,
    segmentation,
)  # fmt: skip
ROWS: list[Row] = [row for table in TABLES for row in table()]

FIGURES = {
    figure.name: figure
    for figure in (
        Figure("figure1", "CIFAR-10: plain nets", ("cifar10_plain20", "cifar10_plain56"), "curves"),
        Figure(
            "figure4",
            "ImageNet: plain and residual nets",
            ("imagenet_plain18", "imagenet_plain34", "imagenet_r18", "imagenet_r34_a"),
            "curves",
        ),
        Figure(
            "figure6",
            "CIFAR-10: plain and residual nets",
            (
                *(f"cifar10_{kind}{depth}" for kind in ("plain", "resnet") for depth in (20, 32, 44, 56, 110)),
                "cifar10_resnet1202",
            ),
            "curves",
        ),
        Figure(
            "figure7",
            "Standard deviations of layer responses",
            ("cifar10_plain20", "cifar10_plain56", "cifar10_resnet20", "cifar10_resnet56", "cifar10_resnet110"),
            "responses",
        ),
        Figure("detections_voc", "PASCAL VOC 2007: detections of ResNet-101", ("voc_r101",), "detections"),
        Figure("detections_coco", "COCO: detections of ResNet-101", ("coco_r101",), "detections"),
    )
}
