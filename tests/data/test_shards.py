"""Compares shards with the data set they are made from, and checks the exchange with other programs."""

import io
import json
import shutil
import tarfile

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from resdet import config
from resdet.classification.data.augment_config import AugmentConfig
from resdet.classification.data.loader import Samples, TrainingLoader
from resdet.classification.data.transforms import TrainTransform
from resdet.cli import main
from resdet.data.loader import Notes, Skipped
from resdet.data.shards import Limit, Sample, write_shards
from resdet.detection.data import shape_scenes
from resdet.detection.data.augment_config import SceneConfig
from resdet.detection.data.loader import SceneLoader
from resdet.errors import DataError

CPU = torch.device("cpu")
IMAGES = 9


def tar(path, files):
    """Writes a tar file as another program would."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


def jpeg(seed, size=(20, 30)):
    return cv2.imencode(".jpg", np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8))[1].tobytes()


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Writes a folder of scenes and its shards."""
    folder = tmp_path_factory.mktemp("scenes")
    shape_scenes.write(folder / "files", IMAGES, 4, 64, 0)
    assert main(["data", "shard", str(folder / "files"), str(folder / "shards"), "--images-per-shard", "4"]) == 0
    return folder


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """Writes a folder per class and the shards of these folders."""
    folder = tmp_path_factory.mktemp("classes")
    for split, count in (("train", 5), ("val", 2)):
        for label, name in enumerate(("cat", "dog")):
            (folder / "files" / split / name).mkdir(parents=True)
            for i in range(count):
                (folder / "files" / split / name / f"{i}.JPEG").write_bytes(jpeg(10 * label + i))
    assert main(["data", "shard", str(folder / "files"), str(folder / "shards"), "--shard-size", "1"]) == 0
    return folder


def open_detection(folder, split, *overrides):
    return config.load("custom.yaml", f"data.root={folder}", *overrides).data.open(split)


def open_classes(folder, split):
    return config.load("imagenet_r50.yaml", "data.name=folder", f"data.root={folder}").data.open(split)


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def without_caches(files):
    return {name: data for name, data in files.items() if ".resdet" not in name}


@pytest.mark.parametrize("split", ["train", "val"])
def test_detection_data_equal_the_files(scenes, split):
    files, shards = (open_detection(scenes / name, split) for name in ("files", "shards"))
    assert len(shards) == len(files) and shards.classes == files.classes
    for name in ("sizes", "boxes", "labels", "starts", "crowd", "points", "image_ids"):
        np.testing.assert_array_equal(shards.arrays[name], files.arrays[name])
    assert [shards.image(i).data for i in range(len(shards))] == [files.image(i).data for i in range(len(files))]
    assert [shards.header_size(i) for i in range(len(shards))] == list(map(tuple, files.sizes.tolist()))


def batches(source, first, workers=0, rank=0, world=1):
    augment = SceneConfig(min_size=[48], max_size=64)
    loader = SceneLoader(
        source, augment, 4, 3, CPU, Notes([].append), on_bad_image="error", workers=workers, rank=rank, world=world
    )
    return [batch for _, batch in zip(range(5 - first), loader.batches(first))]


def assert_same(one, other):
    for first, second in zip(one, other, strict=True):
        assert torch.equal(first.images.pixels, second.images.pixels)
        assert torch.equal(first.targets.boxes, second.targets.boxes)
        assert torch.equal(first.indices, second.indices)


def test_batches_equal_the_files_after_a_resume_and_in_workers_and_ranks(scenes):
    expected = batches(open_detection(scenes / "files", "train"), 0)
    source = open_detection(scenes / "shards", "train")
    assert_same(batches(source, 0), expected)
    assert_same(batches(source, 2, workers=2), expected[2:])  # starts in the middle of an epoch
    ranks = [batches(source, 0, rank=rank, world=2) for rank in (0, 1)]
    for whole, *parts in zip(expected, *ranks, strict=True):
        assert torch.equal(whole.indices, torch.cat([part.indices for part in parts]))


def test_classification_data_equal_the_files(classes):
    for split in ("train", "val"):
        files, shards = (open_classes(classes / name, split) for name in ("files", "shards"))
        assert shards.classes == files.classes and len(shards) == len(files)
        np.testing.assert_array_equal(shards.labels, files.labels)
        assert [shards.image(i).data for i in range(len(shards))] == [files.image(i).data for i in range(len(files))]
        assert shards.header_size(0) == (30, 20)


def test_classification_batches_have_each_image_once_per_epoch(classes):
    source = open_classes(classes / "shards", "train")
    samples = Samples(source, TrainTransform(AugmentConfig(), 16), 0, 16, "error")
    loaders = [TrainingLoader(samples, 2, 1, 2, CPU, Skipped([].append), rank, 2) for rank in (0, 1)]
    seen = [batch.indices for loader in loaders for _, batch in zip(range(5), loader.batches(0))]
    assert sorted(torch.cat(seen).tolist()) == list(range(10))


def test_the_same_data_give_the_same_bytes(scenes, classes, tmp_path):
    for name, folder, size in (("a", scenes, "--images-per-shard=4"), ("b", classes, "--shard-size=1")):
        assert main(["data", "shard", str(folder / "files"), str(tmp_path / name), size]) == 0
        assert tree(tmp_path / name) == without_caches(tree(folder / "shards"))


def test_the_index_describes_the_tar_files(scenes):
    import hashlib
    import zlib

    folder = scenes / "shards" / "train"
    index = json.loads((folder / "shards.json").read_text())
    assert sum(shard["nsamples"] for shard in index["shardlist"]) == IMAGES
    for shard in index["shardlist"]:
        data = (folder / shard["url"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (shard["filesize"], shard["sha256"])
    names = [image["file_name"] for image in json.loads((folder / "annotations.json").read_text())["images"]]
    for name in names:
        shard, _, rest = name.partition("@")
        place, _, member = rest.partition("/")
        with tarfile.open(folder / shard) as archive:
            data = archive.extractfile(member).read()
            offset = archive.getmember(member).offset_data
        assert place == f"{offset}+{len(data)}-{zlib.crc32(data):08x}"


def test_webdataset_reads_shards(scenes, classes):
    webdataset = pytest.importorskip("webdataset")
    shards = sorted(map(str, (scenes / "shards" / "train").glob("*.tar")))
    samples = list(webdataset.WebDataset(shards, shardshuffle=False).decode("rgb8"))
    content = json.loads((scenes / "files" / "annotations" / "train.json").read_text())
    objects = {image["id"]: 0 for image in content["images"]}
    for entry in content["annotations"]:
        objects[entry["image_id"]] += 1
    assert {sample["json"]["id"]: len(sample["json"]["annotations"]) for sample in samples} == objects
    assert all(sample["jpg"].shape[:2] == (sample["json"]["height"], sample["json"]["width"]) for sample in samples)
    shards = sorted(map(str, (classes / "shards" / "train").glob("*.tar")))
    pairs = webdataset.WebDataset(shards, shardshuffle=False).decode("rgb8").to_tuple("jpg", "cls")
    assert sorted(label for _, label in pairs) == [0] * 5 + [1] * 5


def test_shards_are_converted_to_files(scenes, tmp_path):
    assert main(["data", "convert", str(scenes / "shards"), str(tmp_path / "coco"), "--to", "coco"]) == 0
    files, back = (open_detection(folder, "train") for folder in (scenes / "files", tmp_path / "coco"))
    assert [back.image(i).data for i in range(len(back))] == [files.image(i).data for i in range(len(files))]
    np.testing.assert_array_equal(back.arrays["boxes"], files.arrays["boxes"])


def test_converted_shards_have_the_names_of_their_tar_files_as_prefixes(scenes, tmp_path):
    assert main(["data", "convert", str(scenes / "shards"), str(tmp_path / "yolo"), "--to", "yolo"]) == 0
    files = [path.name for split in ("train", "val") for path in (tmp_path / "yolo" / "images" / split).iterdir()]
    assert sorted(files) == sorted(
        [*(f"{k:08d}.jpg" for k in range(IMAGES)), *(f"000000_{k:08d}.jpg" for k in range(4))]
    )


def test_data_check_reads_shards(scenes, tmp_path, capsys):
    assert main(["data", "check", str(scenes / "shards"), "--json", str(tmp_path / "a.json"), "--strict"]) == 0
    assert main(["data", "check", str(scenes / "files"), "--json", str(tmp_path / "b.json"), "--strict"]) == 0
    a, b = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert a["counts"] == b["counts"]


CAT = {"bbox": [1, 2, 10, 12], "category": "cat"}
OBJECTS = {  # and the number of objects without a class or a box
    "coco": ({"annotations": [CAT, {"bbox": [1, 2, 3], "category": "cat"}]}, 1),
    "list of objects": ({"objects": [CAT]}, 0),
    "hugging face": ({"objects": {"bbox": [CAT["bbox"]], "category": ["cat"]}}, 0),
    "labels": ({"objects": {"bbox": [CAT["bbox"]], "label": ["cat"]}}, 0),
    "lists of other lengths": ({"objects": {"bbox": [CAT["bbox"], [3, 4, 5, 6]], "category": ["cat"]}}, 1),
    "no classes": ({"annotations": [CAT], "objects": {"bbox": [[1, 2, 3, 4]], "area": [12]}}, 1),
}


@pytest.mark.parametrize("content, bad", OBJECTS.values(), ids=OBJECTS)
def test_tar_files_of_other_programs_with_json(tmp_path, content, bad):
    samples = {f"{i:03d}.jpg": jpeg(i) for i in range(3)} | {f"{i:03d}.json": json.dumps(content) for i in range(3)}
    both = {name: data if isinstance(data, bytes) else data.encode() for name, data in samples.items()}
    tar(tmp_path / "train-0000.tar", both)
    tar(tmp_path / "val-0000.tar", both)
    source = open_detection(tmp_path, "train")
    assert source.classes == ["cat"] and source.sizes.tolist() == [[30, 20]] * 3
    assert source.arrays["boxes"].tolist() == [[1, 2, 11, 14]] * 3
    assert [source.image(i).data for i in range(3)] == [jpeg(i) for i in range(3)]
    left_out = [sentence for sentence in source.problems if "no class and bbox of four numbers" in sentence]
    assert len(left_out) == bad and all(f"left out {3 * bad} objects" in sentence for sentence in left_out)


@pytest.mark.parametrize("suffix, labels", [("cls", ["1", "0"]), ("json", ['{"label": 1}', "0"])])
def test_tar_files_of_other_programs_with_classes(tmp_path, suffix, labels):
    for split in ("train", "val"):
        files = {f"{i}.jpg": jpeg(i) for i in range(2)} | {f"{i}.{suffix}": labels[i].encode() for i in range(2)}
        tar(tmp_path / split / "0.tar", files)
    source = open_classes(tmp_path, "val")
    assert source.labels.tolist() == [1, 0] and source.classes == ["0", "1"]


def test_tar_files_with_both_kinds_of_labels_and_dots_in_names(tmp_path):
    """The key of a sample ends at the first dot; a .cls file takes precedence."""
    files = {"a.left.jpg": jpeg(0), "a.cls": b"1", "a.json": b'{"label": 0}', "b.json": b"0", "b.cls": b"1"}
    for split in ("train", "val"):
        tar(tmp_path / split / "0.tar", files | {"b.jpg": jpeg(1)})
    assert open_classes(tmp_path, "val").labels.tolist() == [1, 1]


def test_images_are_shuffled_over_shards_and_none_is_lost(tmp_path):
    sample = lambda i: None if i % 10 == 9 else Sample(b"pixels", ".jpg", (".cls", b"0"))
    shards = write_shards(tmp_path, 50, sample, Limit(images=9))
    positions = [list(shard.members) for shard in shards]
    assert sorted(sum(positions, [])) == [i for i in range(50) if i % 10 < 9] and len(shards) == 5
    assert all(min(members) < 25 <= max(members) for members in positions)
    assert sorted(path.name for path in tmp_path.iterdir()) == [shard.file for shard in shards]


def test_damaged_images_are_errors(scenes, tmp_path):
    shutil.copytree(scenes / "shards", tmp_path / "shards")
    for path in (tmp_path / "shards" / "train").glob("*.tar"):
        data = bytearray(path.read_bytes())
        data[600] ^= 1  # a byte of the first image
        path.write_bytes(data)
    source = open_detection(tmp_path / "shards", "train")
    damaged = []
    for i in range(len(source)):
        try:
            source.image(i)
        except DataError as error:
            damaged.append(str(error))
    assert len(damaged) == 3 and all("differs from its checksum" in sentence for sentence in damaged)


@pytest.mark.parametrize("tree", [".", "train"], ids=["no trees", "no validation tree"])
def test_shards_of_class_folders_have_their_validation_images(tree, tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "files" / tree / name).mkdir(parents=True)
        for i in range(5):
            (tmp_path / "files" / tree / name / f"{i}.jpg").write_bytes(jpeg(i))
    assert main(["data", "shard", str(tmp_path / "files"), str(tmp_path / "shards")]) == 0
    for split, labels in (("train", [0] * 4 + [1] * 4), ("val", [0, 1])):
        files, shards = (open_classes(tmp_path / folder, split) for folder in ("files", "shards"))
        assert shards.labels.tolist() == files.labels.tolist() == labels and shards.classes == ["cat", "dog"]
        assert [shards.image(i).data for i in range(len(shards))] == [files.image(i).data for i in range(len(files))]


def test_shards_without_validation_tree_are_sharded_again(classes, tmp_path):
    shutil.copytree(classes / "shards" / "train", tmp_path / "part" / "train")
    assert main(["data", "shard", str(tmp_path / "part"), str(tmp_path / "new")]) == 0
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["train"]
    assert open_classes(tmp_path / "part", "train").labels.tolist() == [0] * 5 + [1] * 5


def test_images_next_to_masks_are_not_classes(tmp_path, capsys):
    """Uses color masks, which mark no objects."""
    for folder in ("images", "masks"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (8, 8), (i, 90, 200)).save(tmp_path / "data" / folder / f"{i}.png")
    assert main(["data", "shard", str(tmp_path / "data"), str(tmp_path / "new")]) == 2
    assert "the folders images and masks are not classes; docs/data.md" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "source, sentence", [("", "neither a data set of detection"), ("missing", "neither a data set of detection")]
)
def test_other_folders_are_refused(tmp_path, capsys, source, sentence):
    (tmp_path / "data").mkdir()
    assert main(["data", "shard", str(tmp_path / "data" / source), str(tmp_path / "new")]) == 2
    assert sentence in capsys.readouterr().err
