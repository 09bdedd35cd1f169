"""A detector on a data set: what is found is the images' own, and a perfect detector is told so."""

import contextlib
import io
import json

import numpy as np
import pytest
import torch
from tasks import runs

from resdet import config
from resdet.data.coco import open_coco
from resdet.data.loader import Notes
from resdet.engine.distributed import World
from resdet.errors import DataError
from resdet.evaluation.detection import as_results, detect_all, empty, evaluation_batches_of, figures, of_all
from resdet.evaluation.losses import LossSums
from resdet.evaluation.results import Results
from resdet.inference.result import Result
from resdet.models import building

WORLD = World(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return runs.scenes(tmp_path_factory.mktemp("data") / "scenes")


@pytest.fixture(scope="module")
def source(root):
    return open_coco(root / "annotations/val.json", root / "val")


@pytest.fixture(autouse=True)
def one_thread(few_threads):
    """Maps of a few pixels are worth no second one."""
    torch.set_num_threads(1)


def detector(root, source, *overrides):
    torch.manual_seed(0)
    experiment = config.load("shapes_mask_r18_fpn.yaml", *runs.of(root)[2:], *overrides)
    return experiment, building.build_detector(experiment, source.classes, source.category_ids).eval()


def judge(root, source, *overrides, score=None):
    experiment, model = detector(root, source, *overrides)
    batches = evaluation_batches_of(source, experiment, model, WORLD, Notes(print))
    return model, detect_all(model, source, batches, score)


def truth_as_results(root, keep=lambda entry: not entry["iscrowd"]):
    """The annotations as detections of score 1, their masks as RLE."""
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        annotations = COCO(str(root / "annotations/val.json"))
    entries = [entry for entry in annotations.dataset["annotations"] if keep(entry)]
    rows = [
        {
            **{key: entry[key] for key in ("image_id", "category_id", "bbox")},
            "segmentation": annotations.annToRLE(entry),
        }
        for entry in entries
    ]
    return Results.from_list([{**row, "score": 1.0} for row in rows])


@pytest.mark.parametrize("masks", [False, True])
def test_a_perfect_detector(root, source, masks):
    found = figures("coco", source, truth_as_results(root), masks)
    prefixes = ["", "mask_"] if masks else [""]
    assert found == pytest.approx(
        {f"{p}{name}": 1.0 for p in prefixes for name in ("AP", "AP50", "AP75", "APs", "AR100")}
    )


@pytest.mark.parametrize("metric", ["voc07", "voc_area", "ilsvrc_det"])
def test_a_perfect_detector_by_other_rules(root, source, metric):
    found = truth_as_results(root) if metric != "ilsvrc_det" else truth_as_results(root, lambda entry: True)
    assert figures(metric, source, found, False) == {"mAP": pytest.approx(1.0)}  # ILSVRC knows no crowds


@pytest.mark.parametrize("metric, name", [("coco", "AP"), ("voc_area", "mAP")])
def test_a_detector_blind_to_one_class(root, source, metric, name):
    """Every class counts alike."""
    blind = source.category_ids[0]
    found = truth_as_results(root, lambda entry: entry["category_id"] != blind and not entry["iscrowd"])
    found = figures(metric, source, found, False)
    assert found[name] == pytest.approx(1 - 1 / len(source.classes))


def test_nothing_was_found(root, source):
    model, judged = judge(root, source, score=1.0)
    assert len(judged.results) == 0 and judged.results.to_list() == []
    found = figures("coco", source, judged.results, True)
    assert found["AP"] == found["mask_AP"] == 0


def test_nothing_is_there(root, tmp_path):
    content = json.loads((root / "annotations/val.json").read_text())
    (tmp_path / "empty.json").write_text(json.dumps(content | {"annotations": []}))
    source = open_coco(tmp_path / "empty.json", root / "val")
    with pytest.raises(DataError, match="no objects"):
        figures("coco", source, truth_as_results(root), False)


WITHOUT_PADDING = [
    "model.features=c4",
    "model.fpn.norm=null",
    "model.rpn.anchors.sizes=[[8, 16, 32]]",
    "model.box.resolution=4",
    "model.input={short: 60, long: 90, divisor: 1}",
]


@pytest.mark.parametrize("overrides", [[], WITHOUT_PADDING], ids=["fpn", "c4 without padding"])
def test_what_is_found_is_what_predict_finds(root, source, overrides):
    """By the ids of the file, in pixels of the images, whatever the order in which the images came."""
    model, judged = judge(root, source, "eval.batch=1", *overrides)
    paths = [source.name(index) for index in range(len(source))]
    expected = [
        entry for index, result in enumerate(model.predict(paths)) for entry in result.to_coco(source.image_id(index))
    ]
    assert expected and len(expected) == len(judged.results)
    key = lambda entry: (entry["image_id"], -entry["score"], entry["category_id"])
    for one, other in zip(sorted(expected, key=key), sorted(judged.results.to_list(), key=key)):
        assert [one[name] for name in ("image_id", "category_id")] == [
            other[name] for name in ("image_id", "category_id")
        ]
        assert one["bbox"] == pytest.approx(other["bbox"], abs=1e-3)
        assert one["segmentation"] == other["segmentation"]


def test_losses_are_means_over_the_images(root, source):
    """Each image's are those of `model.losses`; a last batch that is smaller counts by its images."""
    model, judged = judge(root, source, "eval.batch=1")
    experiment, _ = detector(root, source, "eval.batch=1")
    sums = {}
    for batch in evaluation_batches_of(source, experiment, model, WORLD, Notes(print)):
        torch.manual_seed(int(batch.indices[0]))
        with torch.no_grad():
            for name, value in model.losses(batch.images, batch.targets).items():
                sums[name] = sums.get(name, 0) + value.item()
    assert judged.losses == pytest.approx({name: value / len(source) for name, value in sums.items()}, rel=1e-4)


def test_the_same_weights_have_the_same_losses(root, source):
    """Although anchors and regions are drawn at random."""
    first = judge(root, source)[1].losses
    torch.manual_seed(123)
    experiment, model = detector(root, source)
    torch.rand(17)
    batches = evaluation_batches_of(source, experiment, model, WORLD, Notes(print))
    assert detect_all(model, source, batches).losses == first


def test_losses_can_be_spared(root, source):
    assert judge(root, source, "eval.losses=false")[1].losses == {}


def test_a_result_without_detections_is_without_rows():
    nothing = Result(
        np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), [], np.zeros(0, int), (5, 6), np.zeros((0, 5, 6), bool)
    )
    results = as_results(nothing, 7)
    assert len(results) == 0 and results.boxes.shape == (0, 4)


def test_one_process_gathers_its_own():
    rows = Results([3, 4], [1, 1], [0.5, 0.25], [[0, 0, 1, 1], [1, 1, 2, 2]])
    assert of_all([rows]).to_list() == rows.to_list()


def test_mean_losses_weigh_each_image_alike():
    """Two images of one batch, one of the next, which had no positive anchor."""
    sums = LossSums()
    assert sums.means() == {}
    sums.add({"class": torch.tensor(2.0), "box": torch.tensor(0.75)}, 2)
    sums.add({"class": torch.tensor(5.0)}, 1)
    assert sums.means() == {"class": 3.0, "box": 0.5}


def test_an_empty_start_has_masks_where_the_detector_draws_them(root, source):
    assert (
        empty(detector(root, source)[1]).masks == []
        and empty(detector(root, source, "model.mask=null")[1]).masks is None
    )
