"""Tests the RPN localizer: losses in train and eval mode, training on a few images, views, ensembles, checkpoints."""

import numpy as np
import pytest
import torch
from painted import CLASSES, Painted

import resdet
from resdet import config
from resdet.data.loader import Notes
from resdet.errors import ConfigError
from resdet.hub import build_for
from resdet.localization.data.config import LocalizationConfig, LocAugmentConfig
from resdet.localization.data.crops import CropLoader
from resdet.localization.evaluate import errors, locate_all
from resdet.localization.locate import Locator
from resdet.localization.validation_loss import rpn_losses
from resdet.structures import Images, Targets
from resdet.weights import load_weights

SMALL = [
    "model.backbone=cifar_resnet8",
    # All anchors contribute, and many are sampled per image, since there are few steps.
    "model.rpn={sizes: [14, 20, 28], channels: 32, batch: 64, positive_iou: 0.55, negative_iou: 0.5}",
    "data.size=48",
    "data.short=48",
    "data.augment.short=[48,48]",
    "eval.scales=[48]",
    "eval.batch=8",
]


def build(*overrides, classes=CLASSES):
    torch.manual_seed(0)
    return build_for(config.load("shapes_loc_r18", *SMALL, *overrides), classes)


def train(model, source, steps, size=48, short=(48, 48), lr=5e-3):
    torch.set_num_threads(1)
    augment = LocAugmentConfig(short=short, flip=0.0, pca_color=0.0)
    data = LocalizationConfig(size=size, short=size, augment=augment, workers=0)
    loader = CropLoader(source, data, 8, 0, torch.device("cpu"), Notes(print))
    return learn(model, loader, steps, lr)


def learn(model, loader, steps, lr):
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps)
    model.train()
    for _, batch in zip(range(steps), loader.batches(0)):
        sum(model.losses(batch.images, batch.targets).values()).backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return model.eval()


def error(models, source, *overrides) -> float:
    """Returns the localization error with the ground-truth class."""
    setting = config.load("shapes_loc_r18", *SMALL, *overrides).eval
    located = locate_all(Locator(models, setting), source, source.labels[:, None], setting, Notes(print), workers=0)
    return errors(source, located, None)["loc_error"]


@pytest.fixture(scope="module")
def source():
    return Painted.random(8, sides=(14, 30))


@pytest.fixture(scope="module")
def trained(source):
    return train(build(), source, 90)


def test_overfits_a_few_images(trained, source):
    assert error([build().eval()], source) >= 0.5
    assert error([trained], source) == 0
    assert error([trained], source, "eval.vote=null") <= 0.25


def test_validation_losses_drop_with_training(trained, source):
    losses = []
    for model in (build().eval(), trained):
        told = lambda views: rpn_losses(model, source, 10, views)
        found = locate_all(
            Locator([model]), source, source.labels[:, None], model.locating, Notes(print), workers=0, losses=told
        )
        losses.append(found.losses)
    assert all(losses[1][name] < losses[0][name] / 2 for name in ("rpn_class", "rpn_box"))


LEARNT = 34  # pixels: the largest side of an object that `eye` detects


@pytest.fixture
def eye():
    """A rule-based localizer: one box around the colored pixels of a view. For objects larger than LEARNT it returns
    the upper left quarter with a low score."""

    def candidates(pixels, classes):
        boxes, scores = torch.zeros(*classes.shape, 1, 4), torch.zeros(*classes.shape, 1)
        for i, colors in enumerate(pixels.int()):
            y, x = (colors.amax(0) - colors.amin(0) > 90).nonzero(as_tuple=True)
            if len(y):
                box = torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1]).float()
                known = (box[2:] - box[:2]).max() <= LEARNT
                boxes[i], scores[i] = box if known else torch.cat([box[:2], (box[:2] + box[2:]) / 2]), 0.4 + 0.5 * known
        return scores, boxes

    model = build().eval()
    model.candidates = candidates
    return model


def wide(source, shifts):
    """Returns the same objects in images three times as wide, shifted right by `shifts` pixels."""
    found = Painted([[0, 0, 1, 1]] * 8, source.labels, (144, 48))
    for i, shift in enumerate(shifts):
        found.pixels[i][:] = np.median(source.pixels[i], (0, 1)).astype(np.uint8)
        found.pixels[i][:, shift : shift + 48] = source.pixels[i]
        found.things[i] = source.things[i] + (shift, 0, shift, 0)
    return found


def test_dense_views_find_objects_outside_the_central_crop(eye, source):
    """Evaluates images three times as wide, of which the center crop shows the middle third."""
    middle, ends = wide(source, [48] * 8), wide(source, [0, 96] * 4)
    assert error([eye], middle) == 0 and error([eye], ends) == 1
    assert error([eye], middle, "eval.testing=dense") == error([eye], ends, "eval.testing=dense") == 0


def test_several_scales_find_objects_of_other_sizes(eye):
    """Evaluates images of twice the trained size at both sizes: the view with the highest score decides."""
    source = Painted.random(8, sides=(20, 30))
    double = Painted([[0, 0, 1, 1]] * 8, source.labels, (96, 96))
    double.pixels = [pixels.repeat(2, 0).repeat(2, 1) for pixels in source.pixels]
    double.things = source.things * 2
    for scales, expected in {"[96]": 1, "[48]": 0, "[96,48]": 0, "[48,96]": 0}.items():
        assert error([eye], double, "eval.testing=dense", f"eval.scales={scales}") == expected


def test_predict_returns_boxes_in_pixels_of_the_image(trained, source):
    image = source.pixels[0].repeat(2, 0).repeat(2, 1)
    for mode in (True, False):
        (found,) = trained.train(mode).predict([image], [[int(source.labels[0]), 1 - int(source.labels[0])]])
        assert trained.training == mode
        assert found.boxes.shape == (2, 4) and found.labels.tolist() == [source.labels[0], 1 - source.labels[0]]
        assert found.names == [CLASSES[label] for label in found.labels]
        assert overlap(found.boxes[0], source.things[0] * 2) > 0.5
    one, two = trained.predict([source.pixels[1], source.pixels[2]], source.labels[1:3].tolist())
    assert overlap(one.boxes[0], source.things[1]) > 0.5 and overlap(two.boxes[0], source.things[2]) > 0.5


def test_predict_without_classes_and_with_too_few(trained, source):
    nothing, one = trained.predict(source.pixels[:2], [[], [0]])
    assert len(nothing) == 0 and nothing.boxes.shape == (0, 4) and len(one) == 1
    with pytest.raises(ConfigError, match="2 images but classes for 1"):
        trained.predict(source.pixels[:2], [[0]])


def overlap(a, b) -> float:
    from torchvision.ops import box_iou

    return box_iou(torch.tensor(np.array([a])), torch.tensor(np.array([b]))).item()


def batch(objects=True):
    torch.manual_seed(1)
    images = Images(torch.randint(256, (2, 3, 48, 48)).to(torch.uint8), torch.full((2, 2), 48.0))
    boxes = torch.tensor([[[4.0, 4, 30, 30]], [[10, 2, 44, 40]]])
    labels, valid = torch.tensor([[0], [1]]), torch.full((2, 1), objects)
    return images, Targets(boxes * objects, labels, valid, torch.zeros_like(valid))


def test_losses_in_train_and_eval_mode_and_without_objects():
    model = build("model.backbone.norm=frozen")
    for objects in (True, False):
        values = []
        for mode in (True, False):
            torch.manual_seed(0)
            values.append(model.train(mode).losses(*batch(objects)))
        assert values[0].keys() == {"rpn_class", "rpn_box"}
        for name in values[0]:
            torch.testing.assert_close(values[0][name], values[1][name])
        assert (values[0]["rpn_box"] > 0) == objects


def test_losses_compile_without_graph_breaks():
    model = build()
    torch._dynamo.reset()
    compiled = torch.compile(model.losses, backend="eager", fullgraph=True)
    torch.manual_seed(0)
    expected = model.losses(*batch())
    torch.manual_seed(0)
    for name, value in compiled(*batch()).items():
        torch.testing.assert_close(value, expected[name])


def test_an_ensemble_averages(trained, source):
    """Checks that identical models predict as one, and that two models average scores and boxes per anchor."""
    other = build("model.rpn.channels=16").eval()
    pixels = torch.from_numpy(source.pixels[0]).permute(2, 0, 1)[None]
    classes = torch.tensor([[0, 1]])
    locator = Locator([trained, other])
    views, sizes = locator.build_views(source.image(0)), torch.tensor([[48.0, 48.0]])
    with torch.inference_mode():
        same = Locator([trained, trained])(views, sizes, classes)
        torch.testing.assert_close(same, Locator([trained])(views, sizes, classes))
        boxes, scores = locator.candidates(views, sizes, classes)
        pairs = [model.candidates(pixels, classes) for model in (trained, other)]
    mean_scores = (pairs[0][0] + pairs[1][0]) / 2
    best, chosen = mean_scores.max(2)
    torch.testing.assert_close(scores[:, :, 0], best)
    mean_boxes = (pairs[0][1] + pairs[1][1]) / 2
    torch.testing.assert_close(boxes[0, 1, 0], mean_boxes[0, 1, chosen[0, 1]].clamp(0, 48))


@pytest.mark.parametrize(
    "override, complaint", [("model.rpn.sizes=[14,20]", "same anchors"), ("data.size=32", "data.size")]
)
def test_incompatible_ensembles_are_rejected(trained, override, complaint):
    with pytest.raises(resdet.Error, match=complaint):
        Locator([trained, build(override)])


def test_checkpoint_round_trip(trained, source, tmp_path):
    content = {"model": trained.state_dict(), "experiment": trained.experiment, "classes": trained.classes}
    torch.save(content, tmp_path / "a.pth")
    model = resdet.load(tmp_path / "a.pth")
    assert error([model], source) == error([trained], source) and not model.training
    found, expected = (net.predict([source.pixels[3]], [1])[0] for net in (model, trained))
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=0.05)
    more = build(classes=[*CLASSES, "n00000003"])
    with pytest.raises(resdet.Error, match="rpn.scores"):
        load_weights.load(more, tmp_path / "a.pth")
    load_weights.load(more, tmp_path / "a.pth", new_classifier=True)
    assert torch.equal(more.rpn.conv.weight, trained.rpn.conv.weight)
    with pytest.raises(resdet.Error, match="contains a localizer, but the model is not a localizer"):
        load_weights.load(resdet.backbones.create("cifar_resnet8", 2), tmp_path / "a.pth")


def test_saving_for_torchvision_is_rejected(tmp_path):
    with pytest.raises(resdet.Error, match="torchvision has no localizers"):
        resdet.weights.save(build(), tmp_path / "a.pth", "torchvision")


def test_loads_the_backbone_of_a_classifier():
    classifier = resdet.build("shapes_resnet20", "model.backbone=cifar_resnet8", "model.num_classes=7")
    model = build()
    load_weights.load(model, classifier.state_dict(), new_classifier=True)
    for name, tensor in model.backbone.state_dict().items():
        assert torch.equal(tensor, classifier.backbone.state_dict()[name])


def test_the_first_stages_are_frozen():
    parameters = dict(build("model.freeze_stages=2").backbone.named_parameters())
    frozen = {name.split(".")[0] for name, parameter in parameters.items() if not parameter.requires_grad}
    assert frozen == {"conv1", "conv2_x"}


def test_another_number_of_classes_is_rejected():
    with pytest.raises(ConfigError, match="model.num_classes is 3 and the data has 2 classes"):
        build("model.num_classes=3")


def test_strides_and_output_shapes_are_those_of_the_paper():
    for name, stride in (("imagenet_loc_r101", 32), ("imagenet_loc_vgg16", 16)):
        experiment = config.load(name)
        with torch.device("meta"):
            model = build_for(experiment, [str(k) for k in range(1000)])
        assert model.rpn.stride == stride
        assert model.rpn.scores.weight.shape == (1000, 9, 512) and model.rpn.boxes.weight.shape == (1000, 36, 512)
