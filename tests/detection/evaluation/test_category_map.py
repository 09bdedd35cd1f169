"""Categories of data and of models: the same classes under other ids, in another order, or under other names."""

from types import SimpleNamespace

import numpy as np
import pytest

from resdet.detection.evaluation.category_map import CategoryMap
from resdet.errors import ConfigError


def categories(without_objects=(), **ids):
    counts = np.array([name not in without_objects for name in ids], np.int64)
    return SimpleNamespace(classes=list(ids), category_ids=list(ids.values()), label_counts=lambda: counts)


MODEL = categories(cat=1, dog=2, hen=5)


def test_equal_categories_are_themselves():
    same = CategoryMap.of(MODEL, MODEL)
    assert same.labels == [0, 1, 2] and same.ids.tolist() == [1, 2, 5] and same.present.all() and same.note is None


def test_names_in_another_order_are_paired_by_name():
    paired = CategoryMap.of(MODEL, categories(hen=1, dog=2, cat=3))
    assert paired.labels == [2, 1, 0] and paired.ids.tolist() == [3, 2, 1] and paired.present.all()
    assert paired.note == "classes are matched by name: hen has category id 1 in the data and 5 in the model"


def test_data_may_lack_classes_and_have_custom_ids():
    paired = CategoryMap.of(MODEL, categories(hen=0))
    assert paired.labels == [2] and paired.ids[paired.present].tolist() == [0]
    assert paired.present.tolist() == [False, False, True]


def test_other_names_are_paired_by_id():
    paired = CategoryMap.of(MODEL, categories(cat=1, rooster=5))
    assert paired.labels == [0, 2] and paired.present.tolist() == [True, False, True]
    assert paired.note == (
        "1 of 2 classes have other names in the data than in the model, such as rooster and hen; they are matched by "
        "number"
    )


def test_repeated_names_are_paired_by_id():
    """Annotation files may repeat a name."""
    counts = np.ones(3, np.int64)
    repeated = SimpleNamespace(classes=["mouse", "mouse", "hen"], category_ids=[5, 1, 2], label_counts=lambda: counts)
    assert CategoryMap.of(repeated, categories(mouse=5)).labels == [0]
    assert CategoryMap.of(repeated, repeated).labels == [0, 1, 2]
    with pytest.raises(ConfigError, match="Class 5 is mouse in the data and hen in the model"):
        CategoryMap.of(categories(mouse=1, hen=5, dog=2), repeated)


def test_an_unknown_class_among_others_in_another_order_is_refused():
    with pytest.raises(ConfigError, match="Class 1 is hen in the data and cat in the model"):
        CategoryMap.of(MODEL, categories(hen=1, rooster=2))


def test_an_unknown_id_is_refused():
    with pytest.raises(ConfigError, match=r"no class rooster and no category id 7 \(rooster\) of the data"):
        CategoryMap.of(MODEL, categories(cat=1, rooster=7))
    with pytest.raises(ConfigError, match=r"no class rooster and no category id 3 \(hen\) of the data"):
        CategoryMap.of(MODEL, categories(cat=1, hen=3, rooster=5))


def test_a_class_without_objects_may_be_unknown():
    """Roboflow's COCO files have one with the id 0."""
    paired = CategoryMap.of(MODEL, categories(["animals"], animals=0, cat=1, hen=2, dog=3))
    assert paired.labels[1:] == [0, 2, 1] and paired.ids.tolist() == [1, 3, 2] and paired.present.all()
    paired = CategoryMap.of(MODEL, categories(["animals"], animals=0, cat=1, canine=2))
    assert paired.labels[1:] == [0, 1] and paired.ids[paired.present].tolist() == [1, 2]
    assert paired.note is not None and "such as canine and dog" in paired.note


def test_data_without_objects_need_all_classes():
    names = {"cat": 1, "canine": 7}
    with pytest.raises(ConfigError, match="no class canine"):
        CategoryMap.of(MODEL, categories(names, **names))
