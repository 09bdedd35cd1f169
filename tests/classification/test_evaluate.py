"""Tests errors, views and ensembles of classifiers against independent computations with torch and torchvision."""

import shutil
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import functional as TF

from resdet import config
from resdet.backbones import create
from resdet.classification import evaluate
from resdet.classification.command import check_ensemble, compute_metrics, print_metrics
from resdet.classification.config import ClassificationEvalConfig, TestCropsConfig
from resdet.classification.evaluate import scored_images, scored_on_device
from resdet.classification.metrics import Tally, per_class_table
from resdet.classification.model import Classifier
from resdet.classification.report import Predictions, class_table, summary
from resdet.classification.test_crops import Scorer, build_test_crops
from resdet.classification.validation import match, open_validation
from resdet.data.loader import Skipped
from resdet.data.shapes import ShapeImages
from resdet.engine.distributed import World
from resdet.errors import ConfigError, DataError
from resdet.images.crops import center_crop, rectangle
from resdet.images.decode import RawImage
from resdet.images.normalize import Normalize
from resdet.structures import Batch

CPU = torch.device("cpu")


def tally(scores, labels):
    one = Tally(scores.shape[1], CPU)
    for part in range(0, len(labels), 7):
        one.add(scores[part : part + 7], labels[part : part + 7])
    return one.metrics()


def test_metrics_match_a_computation_over_all_images():
    rng = torch.Generator().manual_seed(0)
    scores = torch.rand(100, 12, generator=rng).softmax(1)
    labels = torch.randint(12, (100,), generator=rng)
    figures = tally(scores, labels)
    ranked = scores.argsort(1, descending=True)
    assert figures.error == pytest.approx(1 - (ranked[:, 0] == labels).float().mean().item())
    assert figures.top5_error == pytest.approx(1 - (ranked[:, :5] == labels[:, None]).any(1).float().mean().item())
    assert figures.loss == pytest.approx(nn.functional.nll_loss(scores.log(), labels).item(), rel=1e-5)
    hits = (ranked == labels[:, None]).cumsum(1)[:, [0, 4]]
    for number, counts in enumerate(figures.per_class.tolist()):
        assert counts == [(labels == number).sum(), *hits[labels == number].sum(0)]


def test_unknown_labels_are_ignored_and_ties_go_to_the_smaller_class():
    scores = torch.full((3, 4), 0.25)
    figures = tally(scores, torch.tensor([0, 1, -1]))
    assert (figures.images, figures.error, figures.top5_error) == (2, 0.5, 0.0)


def test_nan_scores_count_as_errors():
    """Checks NaN as the score of the true class, of all classes, and of another class."""
    scores = torch.tensor([[0.1, np.nan, 0.2], [np.nan] * 3, [np.nan, 0.9, 0.1], [0.1, 0.8, 0.1]])
    figures = tally(scores, torch.tensor([1, 0, 1, 1]))
    assert figures.per_class[:, 1].tolist() == [0, 1, 0] and figures.error == 0.75


def test_a_score_of_zero_has_a_finite_loss():
    assert np.isfinite(tally(torch.tensor([[0.0, 1.0]]), torch.tensor([0])).loss)


def test_metrics_without_labeled_images():
    figures = tally(torch.rand(1, 4).softmax(1), torch.tensor([-1]))
    assert (figures.images, figures.loss) == (0, 0.0)
    assert "n/a" in per_class_table(figures, list("abcd"))


def test_the_table_lists_the_worst_class_first():
    scores = torch.eye(3)[[0, 1, 1, 0]]
    table = per_class_table(tally(scores, torch.tensor([0, 1, 2, 2])), ["x", "y", "z"])
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == ["z", "x", "y"]
    assert "| z | 2 | 100.00 |" in table


def test_the_table_has_both_errors():
    """Uses an image whose class has ranks 7, 3 and 1."""
    scores = torch.tensor([[7.0, 6, 5, 4, 3, 2, 1], [6, 7, 4, 3, 2, 1, 5], [1, 2, 3, 4, 5, 6, 7]]) / 28
    table = per_class_table(tally(scores, torch.full((3,), 6)), list("abcdefg"))
    assert table.splitlines()[2] == "| g | 3 | 66.67 | 33.33 |"


@pytest.mark.parametrize("classes", [5, 6])
def test_a_top5_error_is_left_out_where_it_is_always_0(classes, capsys):
    names = list("abcdef")[:classes]
    figures = tally(torch.eye(classes), torch.arange(classes))
    print_metrics(figures, names, per_class=True, json_path=None)
    told = classes == 6
    assert ("top5_error" in figures.summary(), capsys.readouterr().out.count("top-5 error")) == (told, 2 * told)
    ranked = torch.eye(classes).argsort(1, descending=True).numpy()
    found = Predictions(np.arange(classes), np.arange(classes), ranked[:, :5], np.ones((classes, 5)), np.ones(classes))
    assert ("top-5 error" in class_table(found, names).columns) == told
    assert [row[0] for row in summary(found, names).rows] == [
        *("images", "top-1 error"),
        *(["top-5 error"] if told else []),
        "loss",
    ]


def test_names_with_bars_keep_the_columns_of_the_table():
    table = per_class_table(tally(torch.eye(2), torch.tensor([0, 0])), ["a|b", "c\n"])
    assert table.splitlines()[2:] == ["| a\\|b | 2 | 50.00 |", "| c\\n | 0 | n/a |"]


def classifier(seed=0, size=32, short=36):
    torch.manual_seed(seed)
    net = create("resnet18", num_classes=10)
    net.fc.weight.data *= 30
    return Classifier(net, [str(i) for i in range(10)], Normalize([120, 110, 100], [60, 61, 62]), size, short).eval()


def scored(models, source, **config):
    parts = list(
        scored_images(
            models, source, ClassificationEvalConfig(batch=20, **config), CPU, Skipped(print, set()), workers=0
        )
    )
    return torch.cat([scores for scores, *_ in parts])


def test_the_center_crop_is_that_of_the_resized_image():
    model, source = classifier(), ShapeImages(3, 40, 0, "val")
    crops = [as_tensor(center_crop(source.image(index), 36, 32)) for index in range(3)]
    with torch.no_grad():
        expected = nn.functional.softmax(model(torch.cat(crops)), 1)
    torch.testing.assert_close(scored([model], source), expected, rtol=1e-4, atol=1e-5)


def test_ten_crops_of_an_image_may_exceed_the_batch():
    source = ShapeImages(2, 40, 0, "val")
    setting = ClassificationEvalConfig(batch=4, views="ten_crop")
    parts = list(scored_images([classifier()], source, setting, CPU, Skipped(print, set()), workers=0))
    assert [indices.tolist() for *_, indices in parts] == [[0], [1]]


def test_a_dense_test_may_leave_out_the_mirror_image():
    model, source = classifier(), ShapeImages(2, 40, 0, "val")
    pixels = [as_tensor(rectangle(source.image(index), 40)) for index in range(2)]
    with torch.no_grad():
        maps = [model.backbone.dense(model.normalize(image)).mean((2, 3)) for image in pixels]
    expected = nn.functional.softmax(torch.cat(maps), 1)
    found = scored([model], source, views="dense", scales=[40], flip=False)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size, shorts", [(224, [224, 256, 384, 480, 640]), (64, [64, 73, 110, 137, 183])])
def test_the_scales_of_a_dense_test_are_those_of_the_paper_relative_to_the_crop(size, shorts):
    image = RawImage(np.zeros((300, 400, 3), np.uint8), "black")
    views = build_test_crops(TestCropsConfig(views="dense"), size, size)(image)
    assert [min(view.shape[2:]) for view in views] == shorts
    explicit = build_test_crops(TestCropsConfig(views="dense", scales=[80]), size, size)(image)
    assert [min(view.shape[2:]) for view in explicit] == [80]


def as_tensor(pixels):
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]


def test_ten_crops_match_torchvision():
    model, source = classifier(), ShapeImages(3, 40, 0, "val")
    expected = []
    for index in range(3):
        whole = as_tensor(rectangle(source.image(index), 36))
        views = torch.cat(TF.ten_crop(whole, [32, 32]))
        with torch.no_grad():
            expected.append(model(views).softmax(1).mean(0))
    torch.testing.assert_close(scored([model], source, views="ten_crop"), torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_dense_scores_average_scales_flips_and_positions():
    model = classifier()

    class One:
        labels = np.array([3])

        def __len__(self):
            return 1

        def image(self, index):
            return RawImage(np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8), "one")

    expected = []
    for short in (224, 320):
        view = as_tensor(rectangle(One().image(0), short))
        for shown in (view, view.flip(3)):
            with torch.no_grad():
                last = model.backbone.last(model.normalize(shown))
                rows, columns = last.shape[2] - 6, last.shape[3] - 6
                windows = [last[:, :, y : y + 7, x : x + 7].mean((2, 3)) for y in range(rows) for x in range(columns)]
                expected.append(torch.stack([model.backbone.fc(w) for w in windows]).mean(0).softmax(1))
    torch.testing.assert_close(
        scored([model], One(), views="dense", scales=[224, 320]), torch.stack(expected).mean(0), rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize(
    "second, told",
    [
        ({"classes": ["cat", "dog"]}, "b.pth and a.pth have the same classes in another order"),
        ({"short": 40}, "b.pth is tested on crops of 32 pixels at a short side of 40, and a.pth of 32 at 36"),
        ({"size": 36}, "b.pth is tested on crops of 36 pixels"),
        ({"classes": ["dog"]}, "b.pth has 1 class but a.pth has 2"),
        ({"classes": ["1", "2"]}, None),  # from a library without class names
    ],
)
def test_an_ensemble_of_other_classes_or_crops_is_refused(second, told):
    first = {"classes": ["dog", "cat"], "size": 32, "short": 36, "exported": False}
    models = [SimpleNamespace(**first), SimpleNamespace(**first | second)]
    with pytest.raises(ConfigError, match=told) if told else nullcontext():
        check_ensemble(models, ["a.pth", "b.pth"], "center")
    if told and "crop" in told:
        check_ensemble(models, ["a.pth", "b.pth"], "dense")


def test_an_ensemble_averages_probabilities():
    models, source = [classifier(0), classifier(1)], ShapeImages(5, 40, 0, "val")
    alone = [scored([model], source) for model in models]
    torch.testing.assert_close(scored(models, source), (alone[0] + alone[1]) / 2)
    assert (alone[0] - alone[1]).abs().max() > 0.01


def measured(model, source, config, **options):
    return evaluate.tally(scored_images([model], source, config, CPU, **options), 10, CPU)


@pytest.mark.parametrize("workers", [0, 2])
def test_metrics_of_processes_add_up(workers):
    model, source = classifier(), ShapeImages(11, 40, 0, "val")
    config, skipped = ClassificationEvalConfig(batch=4), Skipped(print, set())
    whole = measured(model, source, config, skipped=skipped, workers=workers)
    shares = [
        measured(model, source, config, skipped=skipped, workers=workers, rank=rank, world=2) for rank in range(2)
    ]
    assert sum(share.images for share in shares) == whole.images == 11
    torch.testing.assert_close(sum(share.per_class for share in shares), whole.per_class)


def test_evaluation_of_images_on_the_device():
    model, source = classifier(), ShapeImages(6, 32, 0, "val")
    images, labels = torch.from_numpy(source.pixels()), torch.from_numpy(source.labels)
    figures = evaluate.tally(scored_on_device([model], [Batch(images, labels, torch.arange(6))], CPU), 10, CPU)
    with torch.no_grad():
        expected = nn.functional.cross_entropy(model(images), labels)
    assert figures.loss == pytest.approx(expected.item(), rel=1e-4)


def test_small_images_of_other_classes_are_refused():
    experiment = config.load("shapes_resnet20", "data.val_images=10")
    with pytest.raises(ConfigError, match="The model has 3 classes but the data has 10"):
        compute_metrics([SimpleNamespace(classes=["a", "b", "c"])], experiment, World(0, 1, CPU))


def test_images_of_the_training_folder_are_named(tmp_path, capsys):
    """Evaluates a fifth of the images of class folders without a validation tree."""
    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
        for number in range(5):
            Image.new("RGB", (40, 40)).save(tmp_path / name / f"{number}.png")
    experiment = config.load("folder.yaml", f"data.root={tmp_path}", "data.workers=0", "data.size=32", "data.short=36")
    model = Classifier(create("cifar_resnet8", num_classes=2), ["ant", "bee"], Normalize(), 32, 36).eval()
    assert compute_metrics([model], experiment, World(0, 1, CPU)).images == 2
    assert capsys.readouterr().out.startswith(f"{tmp_path} has no folder val: 2 of the 10 images in {tmp_path} are for")


def test_classes_are_matched_by_name(tmp_path, capsys):
    """Checks that a model with reordered and additional classes has the same errors, also for data on the device."""
    rng = np.random.default_rng(0)
    for name in ("ant", "bee", "cow"):
        (tmp_path / "val" / name).mkdir(parents=True)
        (tmp_path / "train" / name).mkdir(parents=True)
        for number in range(4):
            pixels = rng.integers(256, size=(40, 40, 3), dtype=np.uint8)
            for split in ("train", "val"):
                Image.fromarray(pixels).save(tmp_path / split / name / f"{number}.png")
    net = create("cifar_resnet8", num_classes=4).eval()
    alone = create("cifar_resnet8", num_classes=3).eval()
    order = [3, 0, 2]  # of ant, bee and cow in the model
    alone.load_state_dict({k: v[order] if k.startswith("fc.") else v for k, v in net.state_dict().items()})
    net.fc.bias.data[1] = -1e4  # never predicts the fourth class
    experiment = config.load("folder.yaml", f"data.root={tmp_path}", "data.workers=0", "data.size=32", "data.short=36")
    metrics = []
    for body, classes in ((alone, ["ant", "bee", "cow"]), (net, ["bee", "yak", "cow", "ant"])):
        model = Classifier(body, classes, Normalize(), 32, 36).eval()
        metrics.append(compute_metrics([model], experiment, World(0, 1, CPU)))
    assert metrics[1].loss == pytest.approx(metrics[0].loss, rel=1e-4) and metrics[1].error == metrics[0].error
    assert metrics[1].per_class[[3, 0, 2]].tolist() == metrics[0].per_class.tolist()
    assert capsys.readouterr().out == "1 class of the model is not in the data\n"
    shutil.rmtree(tmp_path / "train")  # val then defines the classes
    shutil.rmtree(tmp_path / "val/bee")
    fewer = compute_metrics([model], experiment, World(0, 1, CPU))
    assert fewer.images == 8 and fewer.per_class[[3, 0, 2]].tolist() == [
        *metrics[0].per_class[:1].tolist(),
        [0, 0, 0],
        *metrics[0].per_class[2:].tolist(),
    ]


def test_labels_on_the_device_are_matched_by_name():
    experiment = config.load("shapes_resnet20", "data.val_images=20")
    images = open_validation(experiment, World(0, 1, CPU), Skipped(print))
    labels, names = images.labels.tolist(), images.classes[::-1]
    assert match(images, "The model", names) is None
    assert images.labels.tolist() == images.images.labels.tolist() == [9 - label for label in labels]


class Damaged(ShapeImages):
    def image(self, index):
        if index == 2:
            raise DataError("image 2 is cut short")
        return super().image(index)


@pytest.mark.parametrize("workers", [0, 2])
def test_damaged_images_are_errors_or_counted(workers):
    model, source, said = classifier(), Damaged(5, 40, 0, "val"), []
    with pytest.raises(DataError, match="^image 2 is cut short$"):  # instead of a worker's traceback
        measured(model, source, ClassificationEvalConfig(), skipped=Skipped(said.append, set()), workers=workers)
    options = {"skipped": Skipped(said.append, set()), "workers": workers, "on_bad_image": "skip"}
    assert measured(model, source, ClassificationEvalConfig(batch=2), **options).images == 4
    assert said == ["skipped image 1: image 2 is cut short"]


def test_scores_are_probabilities():
    scorer = Scorer([classifier(), classifier(2)], CPU, dense=False)
    with torch.no_grad():
        total = scorer([torch.zeros(2, 3, 32, 32), torch.ones(2, 3, 40, 40)]).sum(1)
    torch.testing.assert_close(total, torch.ones(2))
