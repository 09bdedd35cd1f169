"""Markdown tables of the evaluators' metrics."""

from resdet.detection.evaluation import tables

FIGURES = {
    "AP": 0.5,
    "APs": None,
    "per_class": {
        "dog": {"AP": 0.75, "objects": 12},
        "unicorn": {"AP": None, "objects": 0},
        "a|b": {"AP": 0.25, "objects": 3},
    },
}


def test_summary():
    assert tables.summary_table(FIGURES) == "| AP | APs |\n|---:|---:|\n| 0.500 | n/a |"


def test_per_class_worst_first_and_absent_last():
    assert tables.per_class_table(FIGURES).splitlines() == [
        "| class | AP | objects |",
        "|---|---:|---:|",
        "| a\\|b | 0.250 | 3 |",
        "| dog | 0.750 | 12 |",
        "| unicorn | n/a | 0 |",
    ]


def test_control_characters_of_names_are_escaped():
    metrics = {"per_class": {"a\nb\x1b": {"AP": 0.5}}}
    assert tables.per_class_table(metrics).splitlines()[2:] == ["| a\\nb\\x1b | 0.500 |"]


def test_no_classes():
    assert tables.per_class_table({"mAP": None, "per_class": {}}) == "| class |\n|---|"
    assert tables.per_class_table({"mAP": 0.5}) == "| class |\n|---|"  # of a registered evaluator


def test_curves():
    falling = [1 - i / 100 for i in range(101)]
    curves = {"dog": {"recall": [i / 100 for i in range(101)], "precision": {"0.5": [1.0] * 101, "mean": falling}}}
    header, _, first, second = tables.curves_table(curves).splitlines()
    assert header == "| class | IoU | 0.0 | 0.1 | 0.2 | 0.3 | 0.4 | 0.5 | 0.6 | 0.7 | 0.8 | 0.9 | 1.0 |"
    assert first == f"| dog | 0.5 |{' 1.000 |' * 11}"
    assert second.split(" | ")[2:6] == ["1.000", "0.900", "0.800", "0.700"]


def test_confusion():
    confusion = {"classes": ["cat", "dog"], "matrix": [[5, 1, 0], [0, 7, 2], [3, 0, 0]], "score": 0.5, "iou": 0.5}
    assert tables.confusion_table(confusion).splitlines() == [
        "Detections with scores of at least 0.5, matched at IoU 0.5:",
        "",
        "| object \\ detection | cat | dog | missed |",
        "|---|---:|---:|---:|",
        "| cat | 5 | 1 | 0 |",
        "| dog | 0 | 7 | 2 |",
        "| background | 3 | 0 | 0 |",
    ]


def test_tide():
    errors = {"AP50": 0.4, "cost": {"Cls": 0.125, "FP": 0.2}, "counts": {"Cls": 3}}
    assert tables.tide_table(errors).splitlines()[2:] == ["| Cls | 0.125 | 3 |", "| FP | 0.200 |  |"]
