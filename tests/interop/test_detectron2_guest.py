"""Tests resdet's backbones and detectors in detectron2, with its heads, trainer and evaluator."""

import sys

import numpy as np
import pytest
import torch
from detection.heads.twins import pictures

from resdet.errors import ConfigError, Error

pytestmark = pytest.mark.filterwarnings("ignore")
SIDES = [(60, 80), (72, 64)]


def test_missing_detectron2_is_an_error(monkeypatch):
    for name in ("detectron2", "detectron2.config"):  # the second may have been imported before
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "resdet.interop.detectron2", raising=False)
    with pytest.raises(Error, match="needs detectron2"):
        import resdet.interop.detectron2  # noqa: F401


@pytest.fixture(scope="module")
def guest():
    pytest.importorskip("detectron2", reason="detectron2 is not installed")
    from resdet.interop import detectron2 as guest

    return guest


def config(guest, base: str | None = None, **options):
    from detectron2 import model_zoo
    from detectron2.config import get_cfg

    cfg = get_cfg()
    guest.add_config(cfg)
    if base:
        cfg.merge_from_file(model_zoo.get_config_file(base))
    small = {"MODEL.DEVICE": "cpu", "MODEL.ROI_HEADS.NUM_CLASSES": 3, "MODEL.RPN.POST_NMS_TOPK_TEST": 20}
    options = small | {"INPUT.FORMAT": "RGB", "MODEL.WEIGHTS": ""} | options
    cfg.merge_from_list([part for pair in options.items() for part in pair])
    return cfg


def given(train: bool) -> list[dict]:
    """Returns two images; for training, the first has one object with a polygon and the second has two."""
    from detectron2.structures import Boxes, Instances, PolygonMasks

    made = []
    for picture, (height, width) in zip(pictures(*SIDES), SIDES):
        entry = {"image": picture, "height": 2 * height, "width": 2 * width}
        if train:
            count = 1 + len(made)
            instances = Instances((height, width))
            instances.gt_boxes = Boxes(torch.tensor([[10.0, 12, 40, 50], [20, 5, 60, 30]])[:count])
            instances.gt_classes = torch.tensor([0, 2])[:count]
            corners = [
                [np.array([x1, y1, x2, y1, x2, y2, x1, y2])] for x1, y1, x2, y2 in instances.gt_boxes.tensor.tolist()
            ]
            instances.gt_masks = PolygonMasks(corners)
            entry["instances"] = instances
        made.append(entry)
    return made


@pytest.mark.parametrize(
    "base, name, levels",
    [
        ("COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml", "build_resdet_fpn_backbone", {"p2": 4, "p6": 64}),
        ("COCO-Detection/faster_rcnn_R_50_C4_1x.yaml", "build_resdet_backbone", {"res4": 16}),
        ("COCO-Detection/faster_rcnn_R_50_DC5_1x.yaml", "build_resdet_backbone", {"res5": 16}),
    ],
)
def test_a_backbone_with_detectron2s_heads(guest, base, name, levels):
    from detectron2.modeling import build_model

    options = {"MODEL.BACKBONE.NAME": name, "MODEL.ROI_BOX_HEAD.FC_DIM": 32, "MODEL.FPN.OUT_CHANNELS": 32}
    net = "resnet50" if "C4" in base else "resnet18"  # detectron2's conv5_x for regions takes 1024 channels
    model = build_model(config(guest, base, **options, **{"MODEL.RESDET.BACKBONE": net}))
    shapes = model.backbone.output_shape()
    assert {level: shapes[level].stride for level in levels} == levels
    body = getattr(model.backbone, "bottom_up", model.backbone)
    assert hasattr(body.net, "conv5_x") == ("C4" not in base)
    assert not next(body.net.conv2_x.parameters()).requires_grad and next(body.net.conv4_x.parameters()).requires_grad
    image = torch.zeros(1, 3, 64, 96)
    for level, features in model.backbone(image).items():
        stride, channels = shapes[level].stride, shapes[level].channels
        assert features.shape == (1, channels, 64 // stride or 1, -(-96 // stride))
    model.eval()
    with torch.no_grad():
        assert len(model(given(train=False))) == 2
    if "FPN" in base:
        model.train()
        from detectron2.utils.events import EventStorage

        with EventStorage():
            losses = model(given(train=True))
        sum(losses.values()).backward()
        assert all(p.grad is not None for p in body.parameters() if p.requires_grad)


def test_weights_and_options_of_a_backbone(guest, tmp_path):
    from detectron2.modeling import build_backbone

    from resdet.backbones import create

    net = create("resnet18", 10)
    torch.save(net.state_dict(), tmp_path / "a.pth")
    options = {
        "MODEL.BACKBONE.NAME": "build_resdet_backbone",
        "MODEL.RESDET.BACKBONE": "resnet18",
        "MODEL.RESDET.OPTIONS": ["zero_init=true", "norm=bn"],
        "MODEL.RESDET.WEIGHTS": str(tmp_path / "a.pth"),
        "MODEL.RESNETS.OUT_FEATURES": ["res3", "res4"],
    }
    built = build_backbone(config(guest, **options))
    assert torch.equal(built.net.conv4_x[1].conv2.conv.weight, net.conv4_x[1].conv2.conv.weight)
    assert isinstance(built.net.conv4_x[0].conv1.norm, torch.nn.BatchNorm2d)
    assert list(built.output_shape()) == ["res3", "res4"] and built.size_divisibility == 16


@pytest.mark.parametrize(
    "options, word",
    [
        ({"MODEL.RESNETS.OUT_FEATURES": ["res9"]}, "res9"),
        ({"MODEL.RESDET.BACKBONE": "resnet51"}, "did you mean"),
        ({"MODEL.META_ARCHITECTURE": "ResdetDetector", "MODEL.BACKBONE.NAME": "none"}, "CONFIG is empty"),
    ],
)
def test_errors_name_the_faulty_value(guest, options, word):
    from detectron2.modeling import build_model

    cfg = config(
        guest, **{"MODEL.BACKBONE.NAME": "build_resdet_backbone", "MODEL.RESDET.BACKBONE": "resnet18"} | options
    )
    with pytest.raises(ConfigError, match=word):
        build_model(cfg)


def test_the_error_of_missing_keys_names_add_config(guest):
    from detectron2.config import get_cfg
    from detectron2.modeling import build_backbone

    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "build_resdet_backbone"
    with pytest.raises(ConfigError, match="add_config"):
        build_backbone(cfg)


DETECTOR = """
task: detection
model:
  backbone: {name: resnet18, norm: frozen}
  fpn: {width: 16}
  rpn: {batch: 32, pre_nms: [100, 100], post_nms: [30, 20], anchors: {sizes: [[8], [16], [32], [64], [128]]}}
  box: {width: 32, batch: 24, score: 0.0}
  mask: {width: 8, convs: 1}
  input: {divisor: 32}
data: {name: coco, mask_size: 28}
"""


@pytest.fixture
def cfg(guest, tmp_path):
    (tmp_path / "small.yaml").write_text(DETECTOR)
    options = {"MODEL.META_ARCHITECTURE": "ResdetDetector", "MODEL.RESDET.CONFIG": str(tmp_path / "small.yaml")}
    return config(guest, **options)


def test_a_detector_learns_in_detectron2s_trainer(cfg):
    from detectron2.engine import SimpleTrainer
    from detectron2.modeling import build_model
    from detectron2.solver import build_optimizer

    torch.manual_seed(0)
    model = build_model(cfg)
    cfg.SOLVER.BASE_LR = 0.01
    trainer = SimpleTrainer(model, [given(train=True)] * 9, build_optimizer(cfg, model))
    trainer.train(0, 8)
    history = trainer.storage.history("total_loss").values()
    assert len(history) == 8 and history[-1][0] < history[0][0]
    assert {"loss_rpn_objectness", "loss_class", "loss_box", "loss_mask"} <= trainer.storage.histories().keys()


def test_losses_equal_those_of_the_detector(cfg, guest):
    """Passes equal targets to the detector directly, with the same random samples of anchors and regions."""
    from detectron2.modeling import build_model

    from resdet.structures import Targets

    model = build_model(cfg).train()
    batch = given(train=True)
    torch.manual_seed(0)
    found = model(batch)
    boxes, labels = torch.zeros(2, 2, 4), torch.zeros(2, 2, dtype=torch.int64)
    for i, entry in enumerate(batch):
        boxes[i, : i + 1] = entry["instances"].gt_boxes.tensor
        labels[i, : i + 1] = entry["instances"].gt_classes
    valid = torch.tensor([[True, False], [True, True]])
    masks = 255 * valid[..., None, None].expand(2, 2, 28, 28).to(torch.uint8)
    torch.manual_seed(0)
    expected = model.detector.losses(model.images(batch), Targets(boxes, labels, valid, torch.zeros_like(valid), masks))
    assert {name.removeprefix("loss_") for name in found} == expected.keys()
    assert all(torch.allclose(found[f"loss_{name}"], value) for name, value in expected.items())


def test_losses_without_objects_are_finite(cfg):
    from detectron2.modeling import build_model

    batch = given(train=True)
    for entry in batch:
        entry["instances"] = entry["instances"][:0]
    losses = build_model(cfg).train()(batch)
    assert all(torch.isfinite(value) for value in losses.values())


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_detections_equal_predict(cfg, order):
    """Compares with `predict` for an image that needs no resizing; the detections are scaled to the requested size."""
    from dataclasses import replace

    from detectron2.modeling import build_model

    cfg.INPUT.FORMAT = order
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    model.detector.input = replace(model.detector.input, min_size=60, max_size=80, resize="pillow")
    picture = pictures((60, 80))[0]
    found = model([{"image": picture.flip(0) if order == "BGR" else picture, "height": 120, "width": 160}])
    instances = found[0]["instances"]
    expected = model.detector.predict([picture.permute(1, 2, 0).numpy()])[0]
    assert instances.image_size == (120, 160) and len(instances) == len(expected) > 0
    assert torch.allclose(instances.pred_boxes.tensor, 2 * torch.from_numpy(expected.boxes), atol=1e-3)
    assert torch.allclose(instances.scores, torch.from_numpy(expected.scores), atol=1e-5)
    assert instances.pred_masks.shape == (len(instances), 120, 160) and instances.pred_masks.dtype == torch.bool


def test_detectron2s_evaluator(cfg, tmp_path):
    """Evaluates an untrained detector with detectron2's loader, mapper and COCOEvaluator on image files."""
    import json

    from detectron2.data import MetadataCatalog, build_detection_test_loader
    from detectron2.data.datasets import register_coco_instances
    from detectron2.evaluation import COCOEvaluator, inference_on_dataset
    from detectron2.modeling import build_model
    from PIL import Image

    images, annotations = [], []
    for number, (picture, (height, width)) in enumerate(zip(pictures(*SIDES), SIDES)):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(tmp_path / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": height, "width": width})
        box = {
            "bbox": [10, 12, 30, 38],
            "area": 30 * 38,
            "iscrowd": 0,
            "segmentation": [[10, 12, 40, 12, 40, 50, 10, 50]],
        }
        annotations.append({"id": number + 1, "image_id": number, "category_id": 7, **box})
    categories = [{"id": number, "name": str(number)} for number in (3, 7, 9)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "gt.json").write_text(json.dumps(content))
    name = f"resdet_{tmp_path.name}"
    register_coco_instances(name, {}, str(tmp_path / "gt.json"), str(tmp_path))
    cfg.INPUT.MIN_SIZE_TEST, cfg.DATALOADER.NUM_WORKERS = 64, 0
    evaluator = COCOEvaluator(name, tasks=("bbox", "segm"), distributed=False, output_dir=str(tmp_path / "out"))
    torch.manual_seed(0)
    results = inference_on_dataset(build_model(cfg), build_detection_test_loader(cfg, name), evaluator)
    assert set(results) == {"bbox", "segm"} and 0 <= results["bbox"]["AP"] <= 100
    written = json.loads((tmp_path / "out/coco_instances_results.json").read_text())
    assert {entry["category_id"] for entry in written} <= {3, 7, 9} and len(written) > 10
    assert MetadataCatalog.get(name).thing_classes == ["3", "7", "9"]
