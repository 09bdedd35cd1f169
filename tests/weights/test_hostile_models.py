"""Checks that the metadata of a model file is validated and that its config allocates no more than its tensors need."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save as safetensors_bytes
from weights.hostile import torch_bytes

import resdet
from resdet import hub, weights
from resdet.errors import ConfigError, Error, WeightsError
from resdet.weights.checkpoint_file import Checkpoint
from resdet.weights.skip_init import SkipInit

KINDS = ("pth", "safetensors")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return resdet.build("shapes_resnet20.yaml", "model.backbone=cifar_resnet8", "model.num_classes=2").eval()


@pytest.fixture(scope="module")
def content(model) -> dict:
    return {"model": model.state_dict(), "experiment": model.experiment, "classes": ["a", "b"]}


def write(folder: Path, kind: str, content: dict) -> Path:
    """Writes a checkpoint as `resdet train` (.pth) or `resdet convert` (.safetensors) does."""
    path = folder / f"file.{kind}"
    if kind == "pth":
        path.write_bytes(torch_bytes(content))
        return path
    told = {key: json.dumps(value) for key, value in content.items() if key != "model"}
    path.write_bytes(safetensors_bytes({name: t.contiguous() for name, t in content["model"].items()}, told))
    return path


def changed(tree: dict, key: str, value) -> dict:
    """Returns a copy with the value of a dotted key replaced."""
    first, _, rest = key.partition(".")
    return {**tree, first: changed(tree[first], rest, value) if rest else value}


def assert_refused(path: Path, *words: str) -> None:
    with pytest.raises(Error) as caught:
        resdet.load(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and len(message.replace(str(path), "")) < 400
    assert all(word in message for word in words), message


@pytest.mark.parametrize("kind", KINDS)
def test_an_undamaged_file_is_loaded(tmp_path, kind, model, content):
    found = resdet.load(write(tmp_path, kind, content | {"category_ids": [3, 7]}))
    assert found.classes == ["a", "b"] and found.experiment == model.experiment
    assert all(torch.equal(tensor, found.state_dict()[name]) for name, tensor in model.state_dict().items())


ODD = {
    "classes": [7, "ab", ["a"], ["a", 3], ["a", None], [], ["a", "b" * 20_000], {"a": "b"}, [["a"], "b"]],
    "category_ids": [7, "12", [1], [1, 1], [1, 2.0], [1, True], [1, 1 << 70], [1, 2, 3], {"1": 2}],
    "normalize": [7, {}, {"mean": 3, "std": [1] * 3}, {"mean": [1] * 3}, {"mean": [1, 2, "c"], "std": [1, 2, 3]}],
}
STATISTICS = [([1, 2, 3], [1, 0, 1]), ([1, 2, 3], [1, -1, 1]), ([1.0, 2], [1.0, 1]), ([[1, 2, 3]], [[1, 1, 1]])]
ODD["normalize"] += [{"mean": mean, "std": std} for mean, std in STATISTICS]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("key, value", [(key, value) for key, values in ODD.items() for value in values])
def test_metadata_of_a_wrong_type_or_length_is_refused(tmp_path, kind, key, value, content):
    assert_refused(write(tmp_path, kind, content | {key: value}), key.rstrip("s") if key != "normalize" else "")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_pixel_statistics_must_be_finite(tmp_path, value, content):
    assert_refused(write(tmp_path, "pth", content | {"normalize": {"mean": [1.0, value, 1], "std": [1, 1, 1]}}), "mean")


def test_a_config_without_classes_is_refused(tmp_path, content):
    assert_refused(write(tmp_path, "pth", {k: v for k, v in content.items() if k != "classes"}), "no classes")


def deep(levels: int) -> dict:
    found: dict = {}
    for _ in range(levels):
        found = {"a": found}
    return found


def shared(levels: int) -> list:
    """Nests lists that hold the same list twice: a full traversal visits 2**levels values."""
    found: list = [1]
    for _ in range(levels):
        found = [found, found]
    return found


def test_the_size_of_pixel_statistics_is_bounded(tmp_path, content):
    assert_refused(write(tmp_path, "pth", content | {"normalize": {"mean": shared(30), "std": [1, 1, 1]}}), "1,000,000")


@pytest.mark.parametrize(
    "value, words",
    [
        (deep(200), "levels of nesting"),
        (shared(25), "20,000 values"),
        (list(range(30_000)), "20,000 values"),
        (1 << 70, "a int"),
    ],
    ids=["deep", "shared", "long", "huge"],
)
def test_the_size_of_a_config_is_bounded(tmp_path, value, words, content):
    assert_refused(write(tmp_path, "pth", changed(content, "experiment.data", value)), words)


@pytest.mark.parametrize("value", [torch.ones(2), b"bytes", {3: 4}, {1, 2}], ids=str)
def test_a_config_contains_only_plain_values(tmp_path, value, content):
    assert_refused(write(tmp_path, "pth", changed(content, "experiment.data", value)), "save the model again")


@pytest.mark.parametrize(
    "key, value, words",
    [
        ("model.num_classes", 10**9, "model.num_classes is 1000000000"),
        ("model.backbone.name", "cifar_resnet6002", "a far larger net than the tensors"),
        ("model.backbone", {"name": "vgg16"}, "a far larger net than the tensors"),
        ("model.backbone.name", "cifar_resnet20", "does not fit"),
    ],
)
def test_models_larger_than_their_file_are_refused(tmp_path, key, value, words, content):
    assert_refused(write(tmp_path, "pth", changed(content, f"experiment.{key}", value)), words)


def test_more_classes_than_the_tensors_have_are_refused(tmp_path, content):
    """Lists 200,000 classes, each of which would add a row to the classifier."""
    many = [str(label) for label in range(200_000)]
    large = changed(content | {"classes": many}, "experiment.model.num_classes", len(many))
    assert_refused(write(tmp_path, "pth", large), "a far larger net than the tensors")


DETECTOR = ("model.backbone=resnet18", "model.num_classes=2", "model.neck.width=16", "model.box.width=16")


@pytest.fixture(scope="module")
def detector() -> dict:
    with torch.device("meta"):
        model = resdet.build("coco_mask_r50_fpn.yaml", *DETECTOR)
    return {"experiment": model.experiment, "classes": ["a", "b"], "category_ids": [1, 2]}


@pytest.mark.parametrize(
    "key, value, words",
    [
        ("box.width", 10**9, "model.box.width is 1000000000"),
        ("box.convs", 10**9, "model.box.convs is 1000000000"),
        ("box.convs", 10**6, "a far larger net than the tensors"),
        ("box.width", 10**5, "a far larger net than the tensors"),
        ("mask.width", 10**5, "a far larger net than the tensors"),
        ("rpn.anchors.ratios", [1.0] * 1000, "has 1,000 entries"),
    ],
)
def test_heads_larger_than_their_file_are_refused(tmp_path, key, value, words, detector):
    large = changed(detector | {"model": {"normalize.mean": torch.ones(3, 1, 1)}}, f"experiment.model.{key}", value)
    assert_refused(write(tmp_path, "pth", large), words)


def test_the_size_of_a_model_is_checked_before_allocation():
    with pytest.raises(WeightsError, match="a.pth: the config describes a far larger net"):
        with SkipInit({"a": torch.ones(3)}, "a.pth"):
            torch.empty(1 << 50)


def test_loading_draws_no_random_numbers(tmp_path, content):
    path, before = write(tmp_path, "pth", content), torch.get_rng_state()
    resdet.load(path)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_proposer_in_a_file_must_be_a_detector_config(tmp_path):
    experiment = resdet.config.to_dict(
        resdet.config.load("imagenet_loc_rcnn_r101.yaml", "model.proposer=x.pth", "model.num_classes=2")
    )
    path = write(tmp_path, "pth", {"model": {"a": torch.ones(1)}, "experiment": experiment, "classes": ["a", "b"]})
    assert_refused(path, "model.proposer is a path")
    inner = resdet.config.to_dict(resdet.config.load("shapes_resnet20.yaml", "model.num_classes=2"))
    nested = changed(experiment, "model.proposer", inner)
    path = write(tmp_path, "pth", {"model": {"a": torch.ones(1)}, "experiment": nested, "classes": ["a", "b"]})
    assert_refused(path, "has the task classification")


def test_errors_of_a_config_name_the_file(tmp_path, content):
    path = write(tmp_path, "pth", content | {"classes": ["a", "b", "c"]})
    with pytest.raises(ConfigError, match="file.pth: model.num_classes is 2 and the data has 3 classes"):
        resdet.load(path)


# Models of other libraries.


def state_on_paper(make, **options) -> dict:
    with torch.device("meta"):
        return make(weights=None, **options).state_dict()


@pytest.mark.parametrize(
    "name, kind",
    [
        ("detection.retinanet_resnet50_fpn", "a RetinaNet or FCOS of torchvision"),
        ("detection.fcos_resnet50_fpn", "a RetinaNet or FCOS of torchvision"),
        ("detection.ssd300_vgg16", "an SSD of torchvision"),
        ("segmentation.deeplabv3_resnet50", "a segmentation net of torchvision"),
        ("segmentation.lraspp_mobilenet_v3_large", "a segmentation net of torchvision"),
        ("vit_b_16", "a transformer"),
        ("swin_t", "a transformer"),
        ("densenet121", "a DenseNet"),
        ("mobilenet_v2", "a MobileNet"),
        ("efficientnet_b0", "a MobileNet, EfficientNet"),
        ("convnext_tiny", "a MobileNet, EfficientNet or ConvNeXt"),
    ],
)
def test_unsupported_torchvision_models_are_named(name, kind):
    models = pytest.importorskip("torchvision.models")
    module, _, function = name.rpartition(".")
    make = getattr(getattr(models, module) if module else models, function)
    options = {"weights_backbone": None} if module else {}
    with pytest.raises(WeightsError, match=f"net.pth: this looks like {kind}"):
        weights.recognize(Checkpoint(state_on_paper(make, **options), "net.pth"))


@pytest.mark.parametrize(
    "names, kind",
    [
        (["backbone.0.body.conv1.weight", "transformer.encoder.layers.0.norm1.weight"], "a DETR"),
        (["backbone.bottom_up.stem.conv1.weight", "head.cls_score.weight"], "a RetinaNet of detectron2"),
        (["backbone.layer1.0.conv1.weight", "rpn_head.rpn_cls.weight"], "a net of mmdetection"),
        (["model.0.conv.weight"], "a YOLO"),
        (["backbone.net.weight"], None),
    ],
)
def test_unsupported_models_with_a_backbone_prefix_are_named(names, kind):
    checkpoint = Checkpoint({name: torch.ones(1) for name in names}, "net.pth")
    with pytest.raises(WeightsError, match=f"this looks like {kind}" if kind else "the tensor names .* is unknown"):
        hub.load_foreign(checkpoint)


def test_a_model_with_the_tensor_names_of_another_is_refused(tmp_path):
    """Checks ResNeXt, which has ResNet's tensor names: the error must not advise to build an unsupported model."""
    models = pytest.importorskip("torchvision.models")
    state = {name: torch.zeros(tensor.shape) for name, tensor in state_on_paper(models.resnext50_32x4d).items()}
    with pytest.raises(WeightsError, match="tensor names of a resnet50, but is a different, unsupported net") as caught:
        hub.load_foreign(Checkpoint(state, "net.pth"))
    assert "build the model of the file" not in str(caught.value)


def test_a_backbone_without_classes_is_refused_with_advice(tmp_path):
    models = pytest.importorskip("torchvision.models")
    state = {name: tensor for name, tensor in models.resnet18().state_dict().items() if not name.startswith("fc.")}
    path = tmp_path / "net.pth"
    torch.save(state, path)
    assert_refused(path, "is a resnet18 without classes", "new_classifier=True")
    assert weights.load(resdet.backbones.create("resnet18", 3), path, new_classifier=True).loaded == len(state)


LAYOUTS = {
    "torchvision": {"layer1.0.conv1.weight": (1,), "fc.bias": ()},
    "vgg": {"features.0.weight": (), "classifier.0.weight": ()},
    "keras": {"conv2_block1_1_conv/kernel": (3,)},
    "keras classifier": {"conv2_block1_1_conv/kernel": (1, 1, 1, 1), "predictions/kernel": (1, 2, 3)},
    "detectron2 backbone": {"stem.conv1.weight": (), "res2.0.conv1.weight": (), "res2.0.conv2.weight": ()},
    "detectron2 statistics": {
        **{"stem.conv1.weight": (1, 3, 7, 7), "res2.0.conv1.weight": (1,), "res2.0.conv2.weight": (1, 1)},
        **{"pixel_mean": (5,), "pixel_std": (3,)},
    },
    "detectron2 detector": {
        "proposal_generator.rpn_head.objectness_logits.weight": (),
        **{"backbone.res2.0.conv2.weight": (1, 1), "roi_heads.box_head.fcX.weight": (1,)},
    },
    "torchvision detector": {"rpn.head.cls_logits.weight": (1,), "backbone.body.layer1.0.conv1.weight": ()},
    "caffe2": {"conv1_w": (), "res2_0_branch2a_w": (), "res2_0_branch2b_w": (3,)},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_known_names_with_wrong_shapes_are_refused(layout):
    state = {name: torch.ones(shape) for name, shape in LAYOUTS[layout].items()}
    with pytest.raises(WeightsError, match="net.pth"):
        hub.load_foreign(Checkpoint(state, "net.pth"))
    with pytest.raises(WeightsError, match="net.pth"):
        weights.load(resdet.build("imagenet_r18", "model.num_classes=5"), Checkpoint(state, "net.pth"))


def test_shapes_that_would_broadcast_are_refused():
    """Refuses a norm weight of [N, 1] with a variance of [N], which would broadcast to N × N."""
    from resdet.weights.layouts.torchvision_detectors import without_epsilon

    state = {"backbone.a.running_var": torch.ones(1 << 20), "backbone.a.weight": torch.ones(1 << 20, 1)}
    with pytest.raises(WeightsError, match="different shapes"):
        without_epsilon(state)
