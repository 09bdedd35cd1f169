"""The EnsembleDetector: equal to `predict` without settings, otherwise means over views and models."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from detection.heads import tiny
from narrow import narrow_resnets
from tasks import runs
from torch.nn import functional as F

from resdet import config
from resdet.data.loader import Notes
from resdet.detection.build import build_detector
from resdet.detection.data.coco import open_coco
from resdet.detection.evaluation.category_map import CategoryMap
from resdet.detection.evaluation.evaluate import detect, detect_one_by_one
from resdet.detection.evaluation.results import Results
from resdet.detection.inference.config import TTAConfig
from resdet.detection.inference.tta import EnsembleDetector, propose
from resdet.detection.inference.views import Scored, views_of
from resdet.engine.distributed import World
from resdet.errors import ConfigError, DataError

pytest.importorskip("torchvision")


@pytest.fixture(scope="module", autouse=True)
def narrower():
    """Uses backbones of half the width."""
    with narrow_resnets((32, 64, 128, 256)):
        yield


PICTURE = np.random.default_rng(0).integers(256, size=(50, 90, 3), dtype=np.uint8)
SCORE = 0.2


def same(a, b) -> bool:
    close = len(a) == len(b) and np.allclose(a.boxes, b.boxes, atol=1e-3) and np.allclose(a.scores, b.scores, atol=1e-5)
    return close and (a.labels == b.labels).all() and (a.masks is None or (a.masks == b.masks).all())


def result_of(net, picture=PICTURE, score=SCORE, **settings):
    (result,) = EnsembleDetector([net], TTAConfig(**settings)).predict([picture], score)
    return result


@pytest.mark.parametrize("family", [*tiny.FAMILIES, "mnc"])
def test_without_settings_it_predicts_like_the_detector(family, tmp_path):
    net = tiny.make(family, True, *([] if family == "mnc" else ["model.box.context=true"])).train()
    cv2.imwrite(str(tmp_path / "image.png"), PICTURE[:20, :, ::-1])
    images = [PICTURE, tmp_path / "image.png"]
    expected = net.predict(images, SCORE)
    for found, wanted in zip(EnsembleDetector([net]).predict(images, SCORE), expected):
        assert len(wanted) and same(found, wanted) and found.image is wanted.image
    assert net.training


@pytest.mark.parametrize("family", ["fpn", "mnc"])
def test_an_ensemble_of_a_model_with_itself_equals_the_model(family):
    """Duplicate proposals of the two equal models are removed by NMS."""
    net = tiny.make(family)
    (found,) = EnsembleDetector([net, net]).predict([PICTURE], SCORE)
    (expected,) = net.predict([PICTURE], SCORE)
    assert len(expected) and np.allclose(found.boxes[:10], expected.boxes[:10], atol=1e-3)
    assert np.allclose(found.scores[:10], expected.scores[:10], atol=1e-5)


def few_candidates():
    """A detector whose number of candidates limits its detections, and whose RoI heads keep the boxes of proposals."""
    net = tiny.make("fpn", True, "model.box.candidates=20", "model.box.detections=20")
    with torch.no_grad():
        for stage in net.roi_heads.stages:
            stage.predictor.boxes.weight.zero_()
            stage.predictor.boxes.bias.zero_()
    return net


@pytest.mark.parametrize("members, settings", [(1, {"refine": True, "voting_iou": None}), (3, {})])
def test_copies_of_candidates_do_not_displace_others(members, settings):
    """Refined boxes are copies here, and so are the proposals of equal models."""
    net = few_candidates()
    nms = net.roi_heads.config.nms
    (found,) = EnsembleDetector([net] * members, TTAConfig(nms=nms, **settings)).predict([PICTURE], 0.0)
    (expected,) = net.predict([PICTURE], 0.0)
    assert len(expected) and same(found, expected)


def views(net, *sizes, flip=False):
    with torch.inference_mode():
        resized = lambda short, long, style: cv2.resize(PICTURE, (short * 90 // 50, short))
        return views_of(net, resized, PICTURE.shape[:2], sizes, flip)


def test_the_union_of_proposals():
    """Concatenates the proposals of all models in all views, in pixels of the image."""
    nets = [tiny.make("fpn").eval(), tiny.make("c4").eval()]
    looks = [views(nets[0], 50, 100), views(nets[1])]
    with torch.inference_mode():
        union = propose(looks)
        parts = []
        for view, scale in ((looks[0][0], 1.0), (looks[0][1], 2.0), (looks[1][0], 64 / 50)):
            found = view.net.propose(view.net.maps(view.images), view.images)
            parts.append(found.boxes[0][found.valid[0]] / scale)
    assert torch.allclose(union, torch.cat(parts), atol=0.4)  # 64 / 50 of 90 pixels are rounded to 115
    assert len(union) == sum(map(len, parts)) > 60


def test_scores_and_boxes_are_means_over_views_and_then_over_models():
    """Models have equal weights, here one with two views and one with four."""
    nets = [tiny.make("c4").eval(), tiny.make("fpn").eval()]
    looks = [views(nets[0], flip=True), views(nets[1], 50, 100, flip=True)]
    boxes = torch.tensor([[5.0, 8, 30, 40], [20, 20, 60, 50]])
    with torch.inference_mode():
        said = EnsembleDetector(nets).classify(looks, boxes)
        of_nets = []
        for own in looks:
            scores, found = 0, 0
            for view in own:
                part = view.classify(boxes)
                scores, found = scores + part.scores / len(own), found + part.boxes / len(own)
            of_nets.append((scores, found))
    assert torch.allclose(said.scores, (of_nets[0][0] + of_nets[1][0]) / 2, atol=1e-6)
    assert torch.allclose(said.boxes, (of_nets[0][1] + of_nets[1][1]) / 2, atol=1e-4)


def test_many_regions_are_scored_in_parts(monkeypatch):
    from resdet.detection.inference import tta

    net = tiny.make("c4", False)
    expected = result_of(net, refine=True)
    monkeypatch.setattr(tta, "AT_ONCE", 7)
    assert len(expected) and same(result_of(net, refine=True), expected)


@pytest.mark.parametrize("family", ["fpn", "c4"])
def test_flip_makes_detections_symmetric(family):
    """Detections in the mirrored image are the mirrored detections with flip, and not without."""
    net = tiny.make(family, False)
    for flip in (True, False):
        found, mirrored = result_of(net, flip=flip), result_of(net, PICTURE[:, ::-1].copy(), flip=flip)
        back = mirrored.boxes[:, [2, 1, 0, 3]] * (-1, 1, -1, 1) + (90, 0, 90, 0)
        agree = np.allclose(found.scores[:20], mirrored.scores[:20], atol=1e-4)
        agree = agree and np.allclose(found.boxes[:5], back[:5], atol=0.1)
        assert agree is flip


def test_one_scale_of_an_fpn_equals_an_input_of_that_size():
    net = tiny.make("fpn")
    found = result_of(net, scales=[96])
    net.input.min_size, net.input.max_size = 96, 192
    assert len(found) and same(found, net.predict([PICTURE], SCORE)[0])


@pytest.mark.parametrize("family", ["c4", "fpn", "cascade"])
@pytest.mark.parametrize("settings", [{"refine": True}, {"scales": [32, 64, 96], "flip": True, "refine": True}])
def test_detections_are_in_order_in_the_image_and_without_duplicates(family, settings):
    from resdet.ops.boxes import iou

    result = result_of(tiny.make(family), voting_iou=None, **settings)
    assert len(result) and (np.diff(result.scores) <= 0).all() and (result.scores > SCORE).all()
    assert (result.boxes >= 0).all() and (result.boxes <= [90, 50, 90, 50]).all()
    assert result.masks.shape == (len(result), 50, 90)
    for label in set(result.labels.tolist()):
        boxes = torch.from_numpy(result.boxes[result.labels == label])
        overlaps = iou(boxes, boxes).fill_diagonal_(0)
        assert overlaps.max() <= 0.3 + 1e-4  # the paper's NMS threshold with refinement


def test_voting_moves_boxes_and_keeps_scores():
    net = tiny.make("c4", False)
    voted, plain = result_of(net, refine=True), result_of(net, refine=True, voting_iou=None)
    assert np.array_equal(voted.scores, plain.scores) and np.array_equal(voted.labels, plain.labels)
    assert not np.allclose(voted.boxes, plain.boxes)


def test_the_final_nms_threshold_can_be_set():
    assert len(result_of(tiny.make("fpn", False), nms=0.9)) > len(result_of(tiny.make("fpn", False), nms=0.1))


def test_thresholds_come_from_the_settings_or_the_first_detector():
    """With refinement, the threshold of the NMS is appendix B's 0.3; limits are the largest of all detectors."""
    keys = ["score=0.1", "nms=0.4", "candidates=300", "detections=200"]
    nets = [tiny.make("fpn", False, *(f"model.box.{key}" for key in keys)), tiny.make("c4", False)]
    config = nets[1].roi_heads.config
    plain = EnsembleDetector(nets)
    assert (plain.min_score, plain.nms) == (0.1, 0.4)
    assert (plain.max_candidates, plain.max_detections) == (config.candidates, 200)
    assert EnsembleDetector(nets, TTAConfig(refine=True)).nms == 0.3
    given = EnsembleDetector(nets, TTAConfig(refine=True, score=0.0, nms=0.6))
    assert (given.min_score, given.nms) == (0.0, 0.6)


def test_masks_are_means_over_the_models_with_masks():
    """The mean has the finest resolution: masks of C4 are 14 x 14 or smaller, those of FPN 28 x 28."""
    nets = [tiny.make("c4").eval(), tiny.make("dc5", False).eval(), tiny.make("fpn").eval()]
    tester = EnsembleDetector(nets)
    assert tester.draws_masks
    looks = [views(net) for net in nets]
    boxes, labels = torch.tensor([[[5.0, 8, 30, 40], [20, 20, 60, 50]]]), torch.tensor([[0, 2]])
    with torch.inference_mode():
        found = tester.predict_masks(looks, boxes[0], labels[0])
        coarse, fine = (look[0].masks(boxes[0], labels[0]) for look in (looks[0], looks[2]))
    size = fine.shape[-1]
    assert coarse.shape[-1] < size
    expected = (F.interpolate(coarse[:, None], size=(size, size), mode="bilinear")[:, 0] + fine) / 2
    assert torch.allclose(found, expected, atol=1e-6)
    (result,) = tester.predict([PICTURE], SCORE)
    assert len(result) and result.masks.shape == (len(result), 50, 90)


@pytest.mark.parametrize("family", ["c4", "mnc"])
def test_mask_voting(family):
    """Mask voting changes nothing but masks, and at an IoU of 0.9999 nothing at all."""
    net = tiny.make(family)
    last = net.roi_heads.mask_head.pixels if family == "mnc" else net.roi_heads.mask_head.masks
    torch.nn.init.normal_(last.weight, std=0.5)
    plain, own, voted = (result_of(net, mask_voting_iou=iou) for iou in (None, 0.9999, 0.3))
    assert len(plain) and same(own, plain)
    assert same(replace(voted, rles=None), replace(plain, rles=None))
    changed = (voted.masks != plain.masks).mean((1, 2))
    assert changed.max() > 0.01


def test_mnc_supports_scales_flip_and_mask_voting():
    found = result_of(tiny.make("mnc"), scales=[48, 64], flip=True, mask_voting_iou=0.5)
    assert len(found) and np.isfinite(found.boxes).all() and found.masks.shape == (len(found), 50, 90)


REFUSED = {
    "with and without model.mnc": (["mnc", "c4"], {}),
    "eval.refine is true": (["mnc"], {"refine": True}),
    "eval.mask_voting_iou is set": (["boxes"], {"mask_voting_iou": 0.5}),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_incompatible_settings_are_refused(sentence):
    families, settings = REFUSED[sentence]
    nets = [tiny.make("c4", False) if family == "boxes" else tiny.make(family) for family in families]
    with pytest.raises(ConfigError, match=sentence):
        EnsembleDetector(nets, TTAConfig(**settings))


def test_detectors_of_other_classes_are_refused():
    other = tiny.make("c4", False)
    other.classes = ["disc", "square", "ring"]
    with pytest.raises(ConfigError, match=r"number 2 has 3 \(disc, square, ring\).*same categories"):
        EnsembleDetector([tiny.make("fpn", False), other])


@pytest.mark.parametrize("settings", [{}, {"refine": True, "scales": [48, 64], "mask_voting_iou": 0.5}])
def test_detectors_with_the_same_classes_in_another_order(settings):
    """An ensemble of a detector and its copy with reordered outputs and other category ids equals one with itself."""
    net, copy, order = tiny.make("c4"), tiny.make("c4"), [2, 0, 1]
    torch.nn.init.normal_(net.roi_heads.mask_head.masks.weight, std=0.5)
    copy.load_state_dict(net.state_dict())
    copy.classes, copy.category_ids = [net.classes[label] for label in order], [7, 8, 9]
    predictor, masks = copy.roi_heads.stages[0].predictor, copy.roi_heads.mask_head.masks
    with torch.no_grad():
        for layer, rows in ((predictor.scores, [*order, 3]), (predictor.boxes, order), (masks, order)):
            for values in (layer.weight, layer.bias):
                values.copy_(values.unflatten(0, (len(rows), -1))[rows].flatten(0, 1))
    own, found = (
        EnsembleDetector([net, other], TTAConfig(**settings)).predict([PICTURE], SCORE)[0] for other in (net, copy)
    )
    assert len(own) > 10 and same(found, own) and found.names == own.names
    assert found.category_ids.tolist() == own.category_ids.tolist()


def test_detectors_with_a_repeated_class_in_another_order_are_refused():
    first, other = tiny.make("fpn", False), tiny.make("fpn", False)
    first.classes, other.classes = ["disc", "disc", "bar"], ["disc", "bar", "disc"]
    with pytest.raises(ConfigError, match="the same classes"):
        EnsembleDetector([first, other])
    assert EnsembleDetector([first, first]).classes == first.classes


def test_candidates_score_above_the_threshold_and_have_an_area_inside_the_image():
    """Of two boxes and two classes, one box is outside the image; a score equal to the threshold is not above it."""
    scores = torch.tensor([[0.5, 0.75], [0.9, 0.9]])
    boxes = torch.tensor([[10.0, 5, 30, 25], [95, 5, 120, 25]])[:, None].expand(-1, 2, -1)
    candidates = EnsembleDetector([tiny.make("fpn")]).candidates_of(
        Scored(scores, boxes), 0.5, torch.tensor([[50.0, 90.0]]), limit=4
    )
    assert (candidates.labels.tolist(), candidates.scores.tolist()) == ([1], [0.75])
    assert candidates.boxes.tolist() == [[10, 5, 30, 25]]


def test_no_detections():
    net = tiny.make("fpn")
    for settings in ({}, {"refine": True}, {"refine": True, "flip": True, "scales": [32, 64]}):
        result = result_of(net, score=0.999, **settings)
        assert len(result) == 0 and result.masks.shape == (0, 50, 90)


def test_images_one_pixel_wide():
    for size in ((1, 1), (1, 300), (300, 1)):
        pixels = np.zeros((*size, 3), np.uint8)
        result = result_of(tiny.make("c4"), pixels, 0.0, refine=True, scales=[32, 64], flip=True)
        assert result.size == size and np.isfinite(result.boxes).all()


@pytest.mark.parametrize("family", ["fpn", "c4", "mnc"])
def test_no_proposals_give_no_detections(family):
    """NaN objectness, as of a diverged model, gives no proposals."""
    net = tiny.make(family)
    net.rpn.objectness.bias.data.fill_(torch.nan)
    result = result_of(net, score=0.0, refine=family != "mnc", flip=True)
    assert len(result) == 0 and result.masks.shape == (0, 50, 90)


# Evaluation on a data set


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return runs.scenes(tmp_path_factory.mktemp("data") / "scenes")


def detector(root, source, *overrides):
    torch.manual_seed(0)
    experiment = config.load("shapes_mask_r18_fpn.yaml", *runs.of(root)[2:], *overrides)
    return experiment, build_detector(experiment, source.classes, source.category_ids).eval()


def rows(results):
    return sorted((e["image_id"], e["score"], e["category_id"], *e["bbox"]) for e in results.to_list())


def test_evaluation_uses_the_ensemble_detector_if_configured(root):
    """Compares with the predictions of single images, and two processes with one."""
    source = open_coco(root / "annotations/val.json", root / "val")
    experiment, net = detector(root, source, "eval.refine=true", "eval.flip=true")
    whole = detect([net], source, experiment, World(0, 1, torch.device("cpu")), Notes(print))
    tester = EnsembleDetector([net], experiment.eval)
    for index in range(len(source)):
        (result,) = tester.predict([source.name(index)])
        mine = whole.results.image_ids == source.image_id(index)
        assert np.allclose(np.sort(whole.results.scores[mine]), np.sort(result.scores), atol=1e-6)
    both = [World(rank, 2, torch.device("cpu")) for rank in (0, 1)]
    categories = CategoryMap.of(net, source)
    shares = [detect_one_by_one(tester, source, categories, "error", world, Notes(print)) for world in both]
    assert all(len(share.results) for share in shares) and whole.losses == {}
    assert rows(Results.concatenate([share.results for share in shares])) == rows(whole.results)


def test_a_damaged_image_is_reported_and_has_no_detections(root, tmp_path):
    import shutil

    shutil.copytree(root, tmp_path / "scenes")
    source = open_coco(tmp_path / "scenes/annotations/val.json", tmp_path / "scenes/val")
    experiment, net = detector(tmp_path / "scenes", source, "eval.flip=true")
    broken = source.name(2)
    open(broken, "wb").write(b"no picture")
    world, said = World(0, 1, torch.device("cpu")), []
    with pytest.raises(DataError, match="not an image"):
        detect([net], source, experiment, world, Notes(said.append))
    experiment.data.on_bad_image = "skip"
    judged = detect([net], source, experiment, world, Notes(said.append))
    assert len(said) == 1 and "image left out" in said[0] and broken in said[0]
    assert source.image_id(2) not in judged.results.image_ids
    assert {source.image_id(i) for i in range(len(source)) if i != 2} == set(judged.results.image_ids.tolist())
