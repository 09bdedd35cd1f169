"""Tests the region-centric R-CNN: losses computed by hand, rescoring of proposals, and its error against the RPN's."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from localization.test_rpn_model import SMALL, build, error, learn, overlap, train
from painted import CLASSES, Painted

import resdet
from resdet import config
from resdet.data.loader import Notes
from resdet.hub import build_for
from resdet.localization.build import build_proposer
from resdet.localization.data.config import LocalizationConfig, LocAugmentConfig
from resdet.localization.data.proposals import ProposalFiles
from resdet.localization.data.regions import RegionLoader, RegionSamples
from resdet.localization.evaluate import locate_all
from resdet.localization.locate import Locator
from resdet.structures import Proposals, RegionTargets

RPN = [word for word in SMALL if not word.startswith("model.rpn")] + ["eval.candidates=100", "eval.proposals=20"]


def build_rcnn(proposer, tmp_path, *overrides, classes=CLASSES):
    content = {"model": proposer.state_dict(), "experiment": proposer.experiment, "classes": proposer.classes}
    torch.save(content, tmp_path / "rpn.pth")
    words = [*RPN, "data.size=32", "model.context=4", f"model.proposer={tmp_path / 'rpn.pth'}", *overrides]
    torch.manual_seed(0)
    return build_for(config.load("shapes_loc_rcnn_r18", *words), classes)


@pytest.fixture
def rcnn(tmp_path):
    return build_rcnn(build(), tmp_path)


def test_initial_weights_are_those_of_fast_rcnn(rcnn):
    """Checks standard deviations of 0.01 and 0.001 (Fast R-CNN, section 2.3) and biases of 0."""
    for layer, std in ((rcnn.scores, 0.01), (rcnn.boxes, 0.001)):
        assert layer.weight.std().item() == pytest.approx(std, rel=0.4) and not layer.bias.any()  # of 128 numbers


def test_losses_by_hand(rcnn):
    """One positive region whose object is shifted by a tenth of its width, one negative and one ignored region."""
    with torch.no_grad():
        for layer in (rcnn.scores, rcnn.boxes):
            layer.weight.zero_()
        rcnn.scores.bias[:, 0] = torch.tensor([1.0, -2.0])
        rcnn.boxes.bias[0, 0] = 0.5
    boxes = torch.tensor([[0.0, 0, 10, 10]] * 3)
    objects = torch.tensor([[1.0, 0, 11, 10], [50, 50, 60, 60], [0, 0, 0, 0]])
    targets = RegionTargets(boxes, objects, torch.tensor([0, 1, -1]), torch.tensor([True, False, False]))
    found = rcnn.losses(torch.zeros(3, 3, 32, 32, dtype=torch.uint8), targets)
    terms = math.log1p(math.exp(-1)), math.log1p(math.exp(-2))
    assert found["class"].item() == pytest.approx(sum(terms) / 2, rel=1e-5)
    assert found["box"].item() == pytest.approx(
        (10 * 0.1 - 0.5 - 0.5 / 9) / 2, rel=1e-4
    )  # above the beta of 1/9: |x| - beta/2


def test_its_layers_replace_the_classifier(rcnn):
    """Compares the scores of both classes with the logits of a classifier of the same weights."""
    net = resdet.build("shapes_resnet20", "model.backbone=cifar_resnet8", "model.num_classes=2").eval()
    net.backbone.load_state_dict(rcnn.backbone.state_dict(), strict=False)
    net.normalize.load_state_dict(rcnn.normalize.state_dict())
    with torch.no_grad():
        rcnn.scores.weight[:, 0], rcnn.scores.bias[:, 0] = net.backbone.fc.weight, net.backbone.fc.bias
        regions = torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8)
        found = [rcnn.eval()(regions, torch.full((3,), label))[0] for label in (0, 1)]
        torch.testing.assert_close(torch.stack(found, 1), net(regions))


def test_other_classes_have_separate_layers(rcnn, tmp_path):
    """Fine-tunes on three classes: the last layers keep their initial weights."""
    other = build_rcnn(build(classes=["a", "b", "c"]), tmp_path, classes=["a", "b", "c"])
    before, mine = other.scores.weight.clone(), rcnn.state_dict()
    state = {name: tensor for name, tensor in mine.items() if not name.startswith("proposer.")}
    state |= {f"proposer.{name}": tensor for name, tensor in other.proposer.state_dict().items()}
    resdet.weights.load_weights.load(other, state, new_classifier=True)
    assert torch.equal(other.scores.weight, before)
    assert torch.equal(other.backbone.conv1.conv.weight, rcnn.backbone.conv1.conv.weight)


def test_regions_are_those_of_training(rcnn):
    """Compares the regions of a test with those of training, from an image annotated at another size."""
    source = Painted.random(1, size=(90, 60))
    box = np.float32([1.3, 7.6, 52.4, 58.1])
    data = LocalizationConfig(size=32, short=40, augment=LocAugmentConfig(short=(40, 40)), workers=0)
    trained = RegionSamples(source, None, data, rcnn.config, 0).pixels(0, box)
    locator = Locator([rcnn])
    tested = locator.regions(locator.build_views(source.image(0))[-1], torch.from_numpy(box)[None])[0]
    np.testing.assert_allclose(trained, tested.permute(1, 2, 0).numpy(), atol=0.51)


def test_refined_boxes_lie_in_the_image(rcnn):
    source, locator = Painted.random(1), Locator([rcnn.eval()])
    torch.nn.init.constant_(rcnn.boxes.bias, 20.0)  # moves boxes by twice their size, and enlarges them
    proposals = Proposals(torch.tensor([[[10.0, 10, 30, 30]]]), torch.ones(1, 1), torch.ones(1, 1, dtype=torch.bool))
    views, sizes = locator.build_views(source.image(0)), torch.tensor([[48.0, 48.0]])
    with torch.inference_mode():
        refined = locator.rescore(views[-1], proposals, sizes, torch.tensor([[0]])).boxes
    assert refined.min() >= 0 and refined.max() == 48


def test_the_center_crop_of_several_images_is_not_batched(rcnn):
    """Regions come from the whole image, and its size differs."""
    sizes = [(48, 48), (60, 48), (48, 64)]
    source = Painted.random(3)
    source.pixels = [Painted.random(1, size=size).pixels[0] for size in sizes]
    source.sizes = np.array(sizes)
    setting = replace(rcnn.locating, testing="center", batch=8)
    found = locate_all(Locator([rcnn.eval()], setting), source, source.labels[:, None], setting, Notes(print), 0)
    assert found.sizes.tolist() == [[48, 48], [48, 60], [64, 48]]


def test_rescoring_uses_the_box_regressor_of_the_class(rcnn):
    with torch.no_grad():
        rcnn.boxes.weight.zero_()
        # One width to the right and half a height down, twice as wide and half as high.
        rcnn.boxes.bias[1] = torch.tensor([10.0, 5, 5 * math.log(2), 5 * math.log(0.5)])
    boxes = torch.tensor([[0.0, 0, 10, 20]] * 2)
    rcnn.eval()
    _, refined = rcnn.rescore(torch.zeros(2, 3, 32, 32), boxes, torch.tensor([0, 1]))
    torch.testing.assert_close(refined, torch.tensor([[0.0, 0, 10, 20], [5, 15, 25, 25]]))


def test_proposals_are_rescored_as_their_class(tmp_path):
    """Checks score and box of each class's proposals: class 0 keeps its boxes, class 1 halves their width. Chunks of
    three regions cross the border between the classes."""
    rcnn = build_rcnn(build(), tmp_path, "model.regions=3").eval()
    with torch.no_grad():
        for layer in (rcnn.scores, rcnn.boxes):
            layer.weight.zero_()
        rcnn.scores.bias[:, 0] = torch.tensor([2.0, -1.0])
        rcnn.boxes.bias[1] = torch.tensor([0, 0, 5 * math.log(0.5), 0])
    source, sizes, classes = Painted.random(1), torch.tensor([[48.0, 48.0]]), torch.tensor([[1, 0]])
    locator = Locator([rcnn])
    views = locator.build_views(source.image(0))
    boxes = torch.tensor([[8.0, 8, 16, 16], [8, 20, 40, 40], [4, 2, 12, 46], [0, 0, 48, 48], [20, 20, 24, 24]])
    valid = torch.tensor([[True] * 5, [True] * 2 + [False] * 3])
    with torch.inference_mode():
        found = locator.rescore(views[-1], Proposals(boxes.expand(2, 5, 4), torch.zeros(2, 5), valid), sizes, classes)
        _, best = locator(views, sizes, classes)
    one, zero = 1 / (1 + math.exp(1)), 1 / (1 + math.exp(-2))
    torch.testing.assert_close(found.scores, torch.tensor([[one], [zero]]).expand(2, 5))
    torch.testing.assert_close(best, torch.tensor([[one, zero]]))
    narrow = torch.tensor([[10.0, 8, 14, 16], [16, 20, 32, 40], [6, 2, 10, 46], [12, 0, 36, 48], [21, 20, 23, 24]])
    torch.testing.assert_close(found.boxes, torch.stack([narrow, boxes]))
    assert torch.equal(found.valid, valid)


def test_the_proposer_is_frozen(rcnn):
    assert not any(parameter.requires_grad for parameter in rcnn.proposer.parameters())
    assert rcnn.backbone.conv1.conv.weight.requires_grad and rcnn.scores.weight.requires_grad


def test_a_checkpoint_contains_the_proposer(rcnn, tmp_path):
    content = {"model": rcnn.state_dict(), "experiment": rcnn.experiment, "classes": rcnn.classes}
    torch.save(content, tmp_path / "rcnn.pth")
    (tmp_path / "rpn.pth").unlink()
    source = Painted.random(2)
    model = resdet.load(tmp_path / "rcnn.pth")
    for found, expected in zip(model.predict(source.pixels, [0, [1, 0]]), rcnn.predict(source.pixels, [0, [1, 0]])):
        np.testing.assert_allclose(found.boxes, expected.boxes, atol=0.05)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
        assert found.boxes.shape == (len(found.labels), 4)


@pytest.mark.parametrize("path", [None, "cls.pth"])
def test_invalid_proposers_are_rejected(tmp_path, path):
    classifier = resdet.build("shapes_resnet20", "model.num_classes=2", "model.backbone=cifar_resnet8")
    content = {"model": classifier.state_dict(), "experiment": classifier.experiment, "classes": ["0", "1"]}
    torch.save(content, tmp_path / "cls.pth")
    given = "null" if path is None else tmp_path / path
    with pytest.raises(resdet.Error, match="model.proposer"):
        build_for(config.load("shapes_loc_rcnn_r18", f"model.proposer={given}"), CLASSES)


def test_a_proposer_of_other_classes_is_rejected(rcnn, tmp_path):
    words = f"model.proposer={tmp_path / 'rpn.pth'}", "data.size=32", "model.context=4"
    with pytest.raises(resdet.Error, match="is not a per-class RPN for the data's 2 classes"):
        build_for(config.load("shapes_loc_rcnn_r18", *words), CLASSES[::-1])


def test_the_proposer_of_a_checkpoint_downloads_no_weights(monkeypatch):
    timm = pytest.importorskip("timm")
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained, **keys: pretrained or create(name, **keys))
    inner = config.to_dict(config.load("shapes_loc_r18", "model.backbone={name: timm/resnet10t, pretrained: true}"))
    assert build_proposer(inner, CLASSES).backbone.net.default_cfg["architecture"] == "resnet10t"


def test_an_ensemble_rescores_shared_proposals(rcnn, tmp_path):
    """Checks that scores and boxes are averaged per region, independent of the chunk size."""
    torch.manual_seed(7)
    other = build_rcnn(build(), tmp_path, "model.regions=3").eval()
    rcnn.eval()
    for net in (rcnn, other):
        torch.nn.init.normal_(net.scores.weight, std=0.5)
        torch.nn.init.normal_(net.boxes.weight, std=0.5)
    source, classes = Painted.random(1), torch.tensor([[0, 1]])
    sizes = torch.tensor([[48.0, 48.0]])
    with torch.inference_mode():
        locators = [Locator(nets) for nets in ([rcnn], [other], [other, rcnn])]
        views = locators[0].build_views(source.image(0))
        proposals = locators[0].propose(views[:-1], sizes, classes)
        one, two, both = (where.rescore(views[-1], proposals, sizes, classes) for where in locators)
    torch.testing.assert_close(both.scores, (one.scores + two.scores) / 2, rtol=1e-4, atol=1e-4)
    inside = ((both.boxes > 0) & (both.boxes < 48)).all(-1) & ((one.boxes > 0) & (one.boxes < 48)).all(-1)
    inside &= ((two.boxes > 0) & (two.boxes < 48)).all(-1)
    torch.testing.assert_close(both.boxes[inside], ((one.boxes + two.boxes) / 2)[inside], rtol=1e-3, atol=1e-2)


def test_an_ensemble_of_other_classes_context_or_crops_is_rejected(rcnn, tmp_path):
    others = {
        "of the same classes": build_rcnn(build(classes=CLASSES[::-1]), tmp_path, classes=CLASSES[::-1]),
        "of the same model.context": build_rcnn(build(), tmp_path, "model.context=5"),
        "of the same data.size": build_rcnn(build("data.size=40"), tmp_path),
    }
    for complaint, other in others.items():
        with pytest.raises(resdet.Error, match=complaint):
            Locator([rcnn, other])


def test_an_ensemble_of_different_kinds_is_rejected(rcnn):
    with pytest.raises(resdet.Error, match="of one kind"):
        Locator([rcnn, build()])


def test_prediction_without_proposals(rcnn):
    """Checks that an image too small for any proposal still yields a box per class."""
    (found,) = rcnn.predict([np.zeros((1, 1, 3), np.uint8)], [[0, 1]])
    assert found.boxes.shape == (2, 4) and np.isfinite(found.boxes).all()


def train_rcnn(model, source, folder, steps, lr=5e-3):
    """Trains the R-CNN on the proposals of its RPN."""
    where = Locator([model.proposer.eval()], model.locating)
    files = ProposalFiles(folder, len(source), where.config.proposals)
    with torch.inference_mode():
        for i in range(len(source)):
            image = source.image(i)
            sizes = torch.tensor([image.size[::-1]], dtype=torch.float32)
            found: Proposals = where.propose(where.build_views(image), sizes, torch.tensor([[int(source.labels[i])]]))
            files.write(i, found.boxes[0][found.valid[0]].numpy())
    data = LocalizationConfig(size=32, short=48, augment=LocAugmentConfig(short=(48, 48), pca_color=0.0), workers=0)
    samples = RegionSamples(source, files, data, model.config, 0)
    loader = RegionLoader(samples, 32, torch.device("cpu"), Notes(print))
    return learn(model, loader, steps, lr)


@pytest.mark.slow
def test_rescoring_improves_on_the_rpn_alone(tmp_path):
    """Compares a briefly trained RPN with the R-CNN on its proposals, on unseen images."""
    learned, unseen = (Painted.random(count, sides=(14, 30), seed=seed) for count, seed in ((64, 1), (40, 2)))
    rpn = train(build("eval.candidates=200", "eval.proposals=30"), learned, 60)
    model = train_rcnn(
        build_rcnn(rpn, tmp_path, "eval.candidates=200", "eval.proposals=30"), learned, tmp_path / "p", 120
    )
    settings = ["eval.testing=dense", "eval.candidates=200", "eval.proposals=30"]
    alone, rescored = error([rpn], unseen, *settings), error([model], unseen, *settings)
    assert rescored < alone and rescored <= 0.25

    places = model.predict(unseen.pixels[:10], unseen.labels[:10].tolist())
    assert np.mean([overlap(found.boxes[0], box) for found, box in zip(places, unseen.things)]) > 0.5
