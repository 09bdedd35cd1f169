"""Tests the inputs and results of `predict`: one result for a single image, a list for several."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from detection.heads import tiny
from PIL import Image

from resdet.classification import Classifier
from resdet.detection import EnsembleDetector, images_from_list, targets_from_list
from resdet.errors import ConfigError, DataError
from resdet.images.decode import as_image, read_image
from resdet.images.image_files import IMAGE_SUFFIXES, images_of
from resdet.images.inputs import expanded, images_in
from resdet.images.normalize import Normalize
from resdet.results.classification import Classification
from resdet.results.result import Result


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, pixels):
    folder = tmp_path_factory.mktemp("images")
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(folder / name), pixels[:, :, ::-1])
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def detector():
    return tiny.make("fpn", False).eval()


def tensor(pixels):
    return torch.from_numpy(pixels).permute(2, 0, 1)


SINGLE = {
    "path": lambda folder, pixels: folder / "a.png",
    "text": lambda folder, pixels: str(folder / "a.png"),
    "array": lambda folder, pixels: pixels,
    "PIL": lambda folder, pixels: Image.fromarray(pixels),
    "uint8 tensor": lambda folder, pixels: tensor(pixels),
    "float tensor": lambda folder, pixels: tensor(pixels) / 255,
}
SEVERAL = {
    "folder": lambda folder, pixels: folder,
    "glob": lambda folder, pixels: f"{folder}/*.png",
    "arrays": lambda folder, pixels: np.stack([pixels] * 2),
    "tensors": lambda folder, pixels: torch.stack([tensor(pixels)] * 2),
    "list": lambda folder, pixels: [folder / "a.png", Image.fromarray(pixels)],
    "generator": lambda folder, pixels: (entry for entry in [pixels, tensor(pixels)]),
}


@pytest.mark.parametrize("kind", SINGLE)
def test_one_image_gives_one_result(kind, detector, folder, pixels):
    (expected,) = detector.predict([pixels], score=0.0)
    result = detector.predict(SINGLE[kind](folder, pixels), score=0.0)
    assert isinstance(result, Result) and len(result) > 0
    assert np.array_equal(result.boxes, expected.boxes) and np.array_equal(result.scores, expected.scores)


@pytest.mark.parametrize("kind", SEVERAL)
def test_several_images_give_a_list(kind, detector, folder, pixels):
    expected = detector.predict(pixels, score=0.0)
    results = detector.predict(SEVERAL[kind](folder, pixels), score=0.0)
    assert isinstance(results, list) and len(results) == 2
    assert all(np.array_equal(result.scores, expected.scores) for result in results)


@pytest.mark.parametrize("score", [50, -0.1])
def test_a_score_outside_its_range_is_refused(detector, pixels, score):
    for predictor in (detector, EnsembleDetector([detector, detector])):
        with pytest.raises(ConfigError, match=f"score is {score}: give a threshold from 0 to 1"):
            predictor.predict(pixels, score=score)


def test_a_glob_leaves_out_folders(folder):
    (folder / "more").mkdir()
    assert [path.name for path in images_in(f"{folder}/*")] == ["a.png", "b.png", "notes.txt"]


def test_a_stream_reads_images_on_demand(detector, pixels):
    read = []
    inputs = (read.append(number) or pixels for number in range(5))
    results = detector.predict(inputs, stream=True)
    assert read == [] and isinstance(next(results), Result)
    assert read == [0]


def test_results_do_not_depend_on_the_batch(detector, folder):
    one, two = (detector.predict(folder, score=0.0, batch=batch) for batch in (1, 2))
    for a, b in zip(one, two):
        assert a.labels.tolist() == b.labels.tolist() and np.allclose(a.boxes, b.boxes, atol=0.01)


def test_a_video(detector, tmp_path, pixels):
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 5, (80, 60))
    for _ in range(3):
        writer.write(pixels)
    writer.release()
    frames = list(images_in(tmp_path / "a.avi"))
    assert len(frames) == 3 and frames[0].shape == (60, 80, 3)
    assert len(detector.predict(str(tmp_path / "a.avi"))) == 3
    (tmp_path / "b.mp4").write_bytes(b"no video")
    with pytest.raises(DataError, match="cannot read the video"):
        detector.predict(tmp_path / "b.mp4")


@pytest.mark.parametrize(
    "inputs, problem",
    [
        (torch.zeros(4, 8, 8, dtype=torch.uint8), "is not an image"),
        (torch.zeros(3, 0, 8), r"tensor \[3, 0, 8\] is not an image"),
        (np.zeros((8, 0, 3), np.uint8), r"uint8 \[8, 0, 3\]: give RGB pixels"),
        (torch.full((3, 8, 8), 2.0), "outside 0 to 1"),
        (torch.full((3, 8, 8), float("nan")), "outside 0 to 1"),
        (Image.new("F", (8, 8)), "mode F has no fixed range"),
        (b"bytes", "bytes is not an image"),
        (None, "NoneType is not an image"),
        (torch.zeros(3, 8, 8, dtype=torch.int64), "int64 is not known"),
        ("nowhere/*.png", "no image there"),
        ("nowhere.png", "nowhere.png"),
    ],
)
def test_invalid_inputs_are_refused(inputs, problem, detector):
    with pytest.raises(DataError, match=problem):
        detector.predict(inputs)


def test_a_pil_image_of_16_bits_is_reduced_as_a_file(tmp_path):
    gray = np.random.default_rng(0).integers(0, 2**16, (20, 30), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), gray)
    (pixels,) = images_in(Image.fromarray(gray))
    assert np.array_equal(pixels, as_image(tmp_path / "a.png").decode())


def test_a_folder_without_images_is_refused(detector, tmp_path):
    with pytest.raises(DataError, match="no image there"):
        detector.predict(tmp_path)


def test_a_classifier(folder, pixels):
    from resdet.backbones import create

    model = Classifier(create("cifar_resnet8", 3), ["a", "b", "c"], Normalize(), size=32, short=32).eval()
    result = model.predict(folder / "a.png")
    assert isinstance(result, Classification) and result.image == folder / "a.png" and len(result) == 3
    assert [len(results) for results in (model.predict(folder), model.predict(folder, batch=1))] == [2, 2]
    result.save(folder / "result.json")
    assert '"names"' in (folder / "result.json").read_text() and result.to_dict()["labels"] == result.labels.tolist()


def test_conversions_of_a_result(detector, tmp_path, pixels):
    model = tiny.make("fpn", True).eval()
    result = model.predict(pixels, score=0.0)
    target = result.to_torchvision()
    target["boxes"].zero_()
    assert result.boxes.any() and result == result and result in {result}
    assert target["masks"].shape == (len(result), 1, 60, 80)
    assert target["labels"].tolist() == (result.labels + 1).tolist()
    result.save(tmp_path / "drawn.png")
    assert cv2.imread(str(tmp_path / "drawn.png")).shape == (480, 640, 3)  # small images are enlarged
    result.save(tmp_path / "result.json")
    assert result.plot().size == (640, 480)


def test_a_data_frame(detector, pixels):
    pytest.importorskip("pandas")
    result = detector.predict(pixels, score=0.0)
    frame = result.to_pandas()
    assert list(frame) == ["name", "label", "category_id", "score", "x1", "y1", "x2", "y2"] and len(frame) == len(
        result
    )


def test_losses_of_lists_equal_those_of_records():
    """Compares lists in torchvision's format with records, for images of two sizes with two objects and none."""
    model = tiny.make("fpn", True, everything=True)
    generator = torch.Generator().manual_seed(0)
    images = [
        torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator) for size in ((64, 96), (48, 64))
    ]
    boxes = torch.tensor([[8.0, 8, 40, 40], [32, 16, 64, 48]])
    masks = torch.zeros(2, 64, 96, dtype=torch.uint8)
    masks[0, 8:40, 8:40] = masks[1, 16:48, 32:64] = 1
    none = {"boxes": boxes[:0], "labels": torch.zeros(0, dtype=torch.int64), "masks": masks[:0, :48, :64]}
    targets = [{"boxes": boxes, "labels": torch.tensor([1, 3]), "masks": masks}, none]
    records = images_from_list(images), targets_from_list(targets)
    assert records[0].pixels.shape == (2, 3, 64, 96) and records[0].sizes.tolist() == [[64, 96], [48, 64]]
    assert records[1].valid.tolist() == [[True, True], [False, False]] and records[1].labels[0].tolist() == [0, 2]
    assert records[1].masks[0].min() == 255  # each mask fills its box
    seeded = lambda *inputs: [torch.manual_seed(0), model.losses(*inputs)][1]
    expected, losses = seeded(*records), seeded(images, targets)
    assert losses.keys() == expected.keys() and all(torch.equal(losses[key], expected[key]) for key in losses)
    floats = seeded([image / 255 for image in images], targets)
    assert all(torch.allclose(floats[key], expected[key], rtol=1e-3, atol=1e-5) for key in floats)
    assert model.eval()(images).boxes.shape[0] == 2


def test_lists_are_padded_to_the_divisor_of_the_model():
    """With a divisor of 1, as in detectron2's C4, an image is not padded: a list gives the output of a tensor."""
    model = tiny.make("c4", False).eval()
    model.input = replace(model.input, divisor=1)
    image = torch.randint(0, 256, (3, 70, 90), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(model([image]).boxes, model(image[None]).boxes)


def test_a_label_of_zero_is_refused():
    with pytest.raises(DataError, match="labels count from 1"):
        targets_from_list([{"boxes": torch.zeros(1, 4), "labels": torch.zeros(1, dtype=torch.int64)}])


@pytest.mark.parametrize(
    "boxes, labels, problem",
    [
        ([[1, 1, 5, 5], [2, 2, 4, 4]], [1], "has 2 boxes and 1 labels"),
        ([[1, 1, 5, 5], [4, 2, 2, 4]], [1, 1], "no area"),
        ([[1, 1, 1, 5]], [1], "no area"),
        ([[1, 1, float("nan"), 5]], [1], "not finite"),
        ([[1, 1, float("inf"), 5]], [1], "not finite"),
    ],
)
def test_invalid_targets_are_refused(boxes, labels, problem):
    with pytest.raises(DataError, match=problem):
        targets_from_list([{"boxes": torch.tensor(boxes), "labels": torch.tensor(labels)}])


@pytest.mark.parametrize("key", ["boxes", "labels"])
def test_targets_without_boxes_or_labels_are_refused(key):
    target = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    del target[key]
    with pytest.raises(DataError, match=f"A target has no {key}"):
        targets_from_list([target])


def test_targets_that_do_not_fit_images_or_classes_are_refused():
    model = tiny.make("fpn", True)
    images, count = [torch.zeros(3, 64, 64)] * 2, len(model.classes)
    target = {"boxes": torch.tensor([[8.0, 8, 40, 40]]), "labels": torch.tensor([count])}
    assert model.losses(images, [target] * 2)["class"].isfinite()
    for number in (0, 1, 3):
        with pytest.raises(DataError, match=f"There are 2 images and {number} targets"):
            model.losses(images, [target] * number)
    above = {**target, "labels": torch.tensor([count + 1])}
    with pytest.raises(DataError, match=f"A label is {count + 1}, but the model has {count} classes"):
        model.losses(images, [target, above])


@pytest.mark.parametrize("key", ["masks", "keypoints"])
def test_masks_of_some_images_are_refused(key):
    boxes = {"boxes": torch.tensor([[1.0, 1, 5, 5]]), "labels": torch.tensor([1])}
    whole = {**boxes, key: torch.ones(1, 8, 3)}
    for targets in ([boxes, whole], [whole, boxes]):
        with pytest.raises(DataError, match=f"Some targets have {key} and others none"):
            targets_from_list(targets)


def test_a_folder_lists_files_with_the_suffix_of_an_image(tmp_path, pixels):
    """Checks hidden files, such as those of macOS, folders named like images, and links to missing files."""
    names = sorted(f"a{suffix.upper() if number % 2 else suffix}" for number, suffix in enumerate(IMAGE_SUFFIXES))
    for name in [*names, "._a.jpg", ".png", "notes.txt"]:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "lost.gif").symlink_to(tmp_path / "absent.gif")
    (tmp_path / "own.gif").symlink_to("own.gif")
    assert [path.name for path in images_of(tmp_path)] == [*names, "lost.gif", "own.gif"]
    assert list(images_in(str(tmp_path))) == images_of(tmp_path)


def test_two_stars_stand_for_folders_at_any_depth(tmp_path):
    files = [tmp_path / name for name in ("a.png", "b/c.png", "b/d/e.png")]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"")
    pattern = f"{tmp_path}/**/*.png"
    assert list(images_in(pattern)) == files and expanded([pattern]) == [str(file) for file in files]


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_images_of_each_suffix_are_decoded(suffix, tmp_path, pixels):
    kind = {".jpe": "JPEG", ".jfif": "JPEG", ".dib": "BMP", ".jp2": "JPEG2000", ".pnm": "PPM"}.get(suffix)
    image = Image.fromarray(pixels)
    image.convert("1" if suffix == ".pbm" else "L" if suffix == ".pgm" else "RGB").save(tmp_path / f"a{suffix}", kind)
    assert read_image(tmp_path / f"a{suffix}", "").decode().shape == (60, 80, 3)
