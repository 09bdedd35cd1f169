"""Checks the mapping of rows between COCO's 80 categories and torchvision's 90 ids."""

import pytest
import torch
from detection.heads import twins

from resdet import config as configs
from resdet import weights
from resdet.backbones import create
from resdet.classification.model import Classifier
from resdet.errors import WeightsError
from resdet.hub import build_for
from resdet.images.normalize import Normalize
from resdet.weights import published_categories as published
from resdet.weights.categories import Categories, rows, select_rows
from resdet.weights.checkpoint_file import Checkpoint
from resdet.weights.layouts import recognition, torchvision_detectors

COCO80, COCO90 = published.coco(80), published.torchvision_coco(90)
UNUSED = [12, 26, 29, 30, 45, 66, 68, 69, 71, 83]  # ids between 1 and 90 without a category


def test_tables_match_coco_and_torchvision():
    assert len(COCO80.ids) == len(set(COCO80.names)) == 80
    assert sorted(set(range(1, 91)) - set(COCO80.ids)) == UNUSED
    assert [COCO90.names[id - 1] for id in UNUSED] == ["N/A"] * 10
    assert [COCO90.names[id - 1] for id in COCO80.ids] == COCO80.names


def test_other_numbers_of_classes_have_numbers():
    for table in (published.numbered, published.coco, published.imagenet):
        assert table(3) == Categories(["0", "1", "2"], [1, 2, 3])
    layout = next(layout for layout in recognition.LAYOUTS if layout.name == "torchvision detector")
    assert layout.classes_of({"num_classes": 1, "keypoint": {"names": None}}) == Categories(["person"], [1])
    assert layout.classes_of({"num_classes": 1, "keypoint": {"names": ["0"]}}) == Categories(["1"], [1])


def test_rows_of_80_from_90_categories_and_back():
    assert rows(COCO90, COCO80) == [id - 1 for id in COCO80.ids]
    back = rows(COCO80, COCO90)
    assert [id for id, row in enumerate(back, 1) if row is None] == UNUSED
    assert [COCO80.ids[row] for row in back if row is not None] == COCO80.ids


def test_rows_of_90_categories_for_coco_and_a_custom_class():
    """Neither set of categories contains the unused ids of the file."""
    own = Categories([*COCO80.names, "cell"], [*COCO80.ids, 91])
    assert rows(COCO90, own) == [*(id - 1 for id in COCO80.ids), None]


def test_rows_of_a_subset_and_of_another_order():
    assert rows(COCO80, Categories(["dog", "person"], [18, 1])) == [16, 0]
    assert rows(Categories(["dog"], [18]), Categories(["person", "dog"], [1, 18])) == [None, 0]
    assert rows(Categories(["a", "b"], [1, 2]), Categories(["b", "a"], [2, 1])) == [1, 0]


def test_rows_of_other_ids():
    """Formats without ids number their classes by name, so that one more class changes the numbers of others."""
    assert rows(COCO80, Categories(["dog", "person"], [1, 2])) == [16, 0]
    unused = Categories(["person", "N/A", "N/A", "dog"], [1, 2, 3, 4])
    assert rows(unused, Categories(["dog", "person"], [1, 2])) == [3, 0]
    assert rows(Categories(["bus", "car"], [1, 2]), Categories(["bike", "bus", "car"], [1, 2, 3])) == [None, 0, 1]


def test_repeated_names_need_equal_ids():
    """LVIS and other data sets have two categories with the same name."""
    mice = Categories(["mouse", "mouse"], [1, 2])
    assert rows(mice, Categories(["mouse", "mouse", "hen"], [2, 1, 3])) == [1, 0, None]
    assert rows(mice, Categories(["mouse", "hen"], [5, 1])) is None
    assert rows(Categories(["mouse", "hen"], [1, 3]), mice) is None


@pytest.mark.parametrize(
    "ours",
    [
        Categories(["cell"], [1]),  # id 1 is a person in COCO
        Categories(["person", "cell"], [1, 2]),
        Categories([], []),
        published.numbered(80),
    ],
)
def test_unrelated_categories_share_no_rows(ours):
    assert rows(COCO80, ours) is None


def detector(categories: Categories, **changes):
    """Builds resdet's counterpart of the narrow torchvision detector with the given categories."""
    settings = twins_settings() | {"num_classes": len(categories.ids)}
    settings["box"] |= changes
    torch.manual_seed(3)
    return build_for(
        configs.from_dict({"task": "detection", "model": settings}), categories.names, categories.ids
    ).eval()


def twins_settings() -> dict:
    return torchvision_detectors.settings(twins.narrow(masks=True).state_dict())


def own_file(model) -> Checkpoint:
    return Checkpoint(model.state_dict(), "own.pth", {"classes": model.classes, "category_ids": model.category_ids})


def last_layers(model) -> tuple[torch.Tensor, ...]:
    """Returns the weights of scores [C + 1, w], boxes [C, 4, w] and masks [C, w]."""
    predictor = model.roi_heads.stages[0].predictor
    masks = model.roi_heads.mask_head.masks.weight.detach().flatten(1)
    return predictor.scores.weight.detach(), predictor.boxes.weight.detach().unflatten(0, (-1, 4)), masks


@pytest.mark.parametrize("theirs, ours", [(COCO90, COCO80), (COCO80, COCO90)])
def test_rows_of_shared_categories_are_loaded_and_reported(theirs, ours):
    source, model = detector(theirs), detector(ours)
    before = [layer.clone() for layer in last_layers(model)]
    report = weights.load(model, own_file(source), new_classifier=True)
    assert report.problems() == {}
    assert f"80 of the model's {len(ours.ids)} classes are in the file, by name" in str(report)
    shared = [(ours.ids.index(id), theirs.ids.index(id)) for id in COCO80.ids]
    fresh = sorted(set(range(len(ours.ids))) - {row for row, _ in shared})
    for there, here, old in zip(last_layers(source), last_layers(model), before):
        assert all(torch.equal(here[row], there[other]) for row, other in shared)
        assert torch.equal(here[fresh], old[fresh])
    assert torch.equal(last_layers(model)[0][-1], last_layers(source)[0][-1])  # background


def test_torchvision_files_imply_their_categories():
    source = detector(COCO90)
    model, expected = detector(COCO80), last_layers(source)[0]
    written = torchvision_detectors.from_our_names(source)
    report = weights.load(model, written, new_classifier=True)
    assert report.layout == "torchvision detector" and not report.problems() and "80 of" in str(report)
    assert torch.equal(last_layers(model)[0][0], expected[0])
    assert torch.equal(last_layers(model)[0][79], expected[89])


def test_other_classes_are_refused_without_new_classifier():
    with pytest.raises(WeightsError, match="of another shape"):
        weights.load(detector(COCO80), own_file(detector(COCO90)))


def test_the_same_classes_in_another_order_are_loaded_without_new_classifier():
    ours = Categories(["hen", "cat", "dog"], [1, 2, 3])
    source, model = detector(Categories(["cat", "dog", "hen"], [1, 2, 3])), detector(ours)
    report = weights.load(model, own_file(source))
    assert "3 of the model's 3 classes are in the file, by name" in str(report) and not report.problems()
    assert torch.equal(last_layers(model)[0], last_layers(source)[0][[2, 0, 1, 3]])
    unused = detector(Categories(["cat", "dog", "N/A"], [1, 2, 3]))
    assert "different ones" in str(weights.load(model, own_file(unused)))
    assert torch.equal(last_layers(model)[0], last_layers(unused)[0])


def test_class_agnostic_boxes_are_loaded():
    source, model = detector(COCO90, class_agnostic=True), detector(COCO80, class_agnostic=True)
    assert weights.load(model, own_file(source), new_classifier=True).problems() == {}
    assert torch.equal(last_layers(model)[1], last_layers(source)[1])


def test_class_agnostic_boxes_do_not_fit_boxes_per_class():
    source, model = detector(COCO90, class_agnostic=True), detector(COCO80)
    report = weights.load(model, own_file(source), new_classifier=True)
    assert len(report.mismatched) == 2 and all("predictor.boxes" in name for name in report.mismatched)


class Last:
    """A model whose last layer scores masks, with a row for the background."""

    def class_layers(self):
        return ["head.mask_scores"]

    def state_dict(self):
        return {"head.mask_scores.weight": torch.tensor([[-1.0], [-2], [-3]])}


def test_mask_scores_have_a_row_for_the_background():
    state = {"head.mask_scores.weight": torch.arange(4.0)[:, None]}  # three classes
    found = select_rows(state, Last(), [2, None], 3)
    assert found["head.mask_scores.weight"].tolist() == [[2], [-2], [3]]


def test_layers_of_another_width_are_refused():
    with pytest.raises(WeightsError, match="of another shape"):
        weights.load(detector(COCO80, width=8), own_file(detector(COCO90)), new_classifier=True)


@pytest.mark.parametrize("new_classifier", [False, True])
def test_a_classifier_with_the_classes_in_another_order_gets_their_rows(new_classifier):
    def classifier(*names: str) -> Classifier:
        return Classifier(create("cifar_resnet8", len(names)), list(names), Normalize(), 32, 32)

    source, model, other = classifier("ant", "bee", "cow"), classifier("cow", "ant", "bee"), classifier("a", "b", "c")
    file = Checkpoint(source.state_dict(), "own.pth", {"classes": source.classes, "experiment": {}})
    report = weights.load(model, file, new_classifier)
    assert "3 classes of the file have another order: their rows are copied by name" in str(report)
    for name, tensor in source.backbone.fc.state_dict().items():
        assert torch.equal(model.backbone.fc.state_dict()[name], tensor[[2, 0, 1]])
    assert not weights.load(other, file, new_classifier).notes
    assert torch.equal(other.backbone.fc.weight, source.backbone.fc.weight)


def test_an_equal_number_of_other_classes_is_loaded_with_a_note():
    five = [Categories([f"{kind} {i}" for i in range(5)], [1, 2, 3, 4, 5]) for kind in ("old", "new")]
    source, model = map(detector, five)
    report = weights.load(model, own_file(source), new_classifier=True)
    assert "as many classes, but different ones" in str(report) and not report.problems()
    assert torch.equal(last_layers(model)[0], last_layers(source)[0])
    assert "different ones" not in str(weights.load(detector(five[0]), own_file(source), new_classifier=True))
