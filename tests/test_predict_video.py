"""Tests `resdet predict` on videos and cameras: a JSON row per frame and a video of the drawn frames."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from detection.heads import tiny
from images.test_video import Camera, cut, written

from resdet import hub
from resdet.backbones import create
from resdet.classification import Classifier
from resdet.images.normalize import Normalize
from resdet.images.video import Video
from resdet.images.video_writer import VideoWriter
from resdet.results.result import Result
from resdet.results.stream import follow, in_a_line
from resdet.results.visualizer import color

pytestmark = pytest.mark.usefixtures("shallow")
WORDS = ("predict", "--weights", "net.pth", "--score", 0, "--json", "rows.json", "--draw", "out")


@pytest.fixture
def detector(monkeypatch):
    """Returns the detector that `hub.load` returns for any file."""
    model = tiny.make("fpn", False).eval()
    monkeypatch.setattr(hub, "load", lambda *_: model)
    return model


def test_a_video_file(tmp_path, command, detector):
    written(tmp_path / "street.mp4")
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((48, 64, 3), np.uint8))
    done = command(*WORDS, "street.mp4", "a.png")
    assert done.returncode == 0, done.stderr
    assert (
        "street.mp4, frame 4 (0.24 s): " in done.stdout and "4 frames at 12.5 per second, without sound" in done.stdout
    )
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["image"] for row in rows] == ["a.png", None, None, None, None]
    assert [(row["video"], row["frame"], row["time"]) for row in rows[1:]] == [
        ("street.mp4", number + 1, number / 12.5) for number in range(4)
    ]
    frames = [frame.pixels for frame in Video(tmp_path / "street.mp4")]
    for row, expected in zip(rows[1:], detector.predict(frames, score=0.0)):
        assert np.allclose([entry["box"] for entry in row["detections"]], expected.boxes)
    drawn = Video(tmp_path / "out/0002_street.mp4")
    assert drawn.rate == 12.5
    pictures = [frame.pixels.astype(int) for frame in drawn]
    assert len(pictures) == 4 and pictures[0].shape == (8 * 48, 8 * 64, 3)  # `--draw` enlarges small frames
    assert all(np.ptp(picture, axis=2).max() > 100 for picture in pictures)  # drawn colors, since the frames are gray
    assert (tmp_path / "out/0001_a.jpg").exists()


def test_the_line_of_a_frame_with_many_objects():
    names, scores = ["cat", "dog", "cat", "owl", "cat"], np.array([0.96, 0.97, 0.9, 0.4, 0.31], np.float32)
    found = Result.of(np.zeros((5, 4), np.float32), scores, np.array([0, 1, 0, 2, 0]), ["cat", "dog", "owl"], (48, 64))
    assert found.names == names
    assert in_a_line(found) == "dog 0.97, cat 0.96–0.31 (3), owl 0.40"
    assert in_a_line(found.above(0.5)) == "dog 0.97, cat 0.96–0.90 (2)"
    assert in_a_line(found.above(0.99)) == "no detection"


def test_globs_stand_for_their_matches(tmp_path, command, detector):
    written(tmp_path / "street.mp4")
    for name in ("b.png", "a.png", "[1].png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((48, 64, 3), np.uint8))
    assert command(*WORDS, "*.mp4", "?.png", "[1].png").returncode == 0
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["image"] for row in rows if row["image"]] == ["a.png", "b.png", "[1].png"] and len(rows) == 7


def test_videos_are_drawn_in_class_colors(tmp_path, command, detector, monkeypatch):
    """Checks that two objects of one class have the same color; colors by index would change from frame to frame."""
    written(tmp_path / "a.mp4")
    boxes = np.array([[4, 4, 28, 44], [36, 4, 60, 44]], np.float32)
    found = Result.of(boxes, np.array([0.9, 0.8], np.float32), np.array([0, 0]), ["a"], (48, 64))
    monkeypatch.setattr(detector, "stream", lambda frames, score=None: (replace(found, image=each) for each in frames))
    assert command(*WORDS, "a.mp4").returncode == 0
    frame = next(iter(Video(tmp_path / "out/0001_a.mp4"))).pixels.astype(int)
    left, right = (frame[8 * 44 - 2, 8 * x] for x in (10, 50))
    assert np.abs(left - right).max() < 40 < np.abs(left - color(1)).max()


def test_objects_in_videos_are_tracked(tmp_path, command, detector, monkeypatch):
    """Tracks two objects in each of two videos: the second one, from frame 2, is confirmed in frame 3."""
    asked, left, right = [], [4, 4, 28, 44], [36, 4, 60, 44]

    def stream(frames, score=None):
        asked.append(score)
        for number, each in enumerate(frames):
            boxes = np.array([left, right][: 1 if number < 1 else 2], np.float32)
            yield Result.of(boxes, np.array([0.9, 0.8], np.float32)[: len(boxes)], np.zeros(len(boxes), int), ["a"],
                            (48, 64), each)  # fmt: skip

    monkeypatch.setattr(detector, "stream", stream)
    for name in ("a.mp4", "b.mp4"):
        written(tmp_path / name)
    words = ("predict", "--weights", "net.pth", "--json", "rows.json", "--draw", "out", "a.mp4", "b.mp4", "--track")
    done = command(*words)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())
    found = [[entry["track_id"] for entry in row["detections"]] for row in rows]
    assert found == [[1], [1], [1, 2], [1, 2]] * 2 and asked == [0.1] * 2
    assert [len(list(Video(tmp_path / f"out/000{n}_{name}.mp4"))) for n, name in ((1, "a"), (2, "b"))] == [4, 4]
    assert command(*words, "--score", "0.85").returncode == 0
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [len(row["detections"]) for row in rows] == [1] * 8  # the other one is too weak to start a track
    assert command(*words, "--score", "0.05").returncode == 0 and asked[-1] == 0.05


def test_images_are_tracked_as_frames_of_one_video(tmp_path, command, detector, monkeypatch):
    for name in ("1.png", "2.png", "4.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((48, 64, 3), np.uint8))
    (tmp_path / "3.png").write_bytes(b"no image")
    box = np.array([[4, 4, 28, 44]], np.float32)
    one = lambda: Result.of(box, np.array([0.9], np.float32), np.zeros(1, int), ["a"], (48, 64))
    monkeypatch.setattr(detector, "predict_prepared", lambda images, **given: [one() for _ in images])
    assert command(*WORDS[:3], ".", "--track", "--json", "rows.json").returncode == 2  # of the damaged image
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [[each["track_id"] for each in row.get("detections", [])] for row in rows] == [[1], [1], [], [1]]


def test_a_classifier_and_parquet_files_track_nothing(tmp_path, command, monkeypatch):
    monkeypatch.setattr(hub, "load", lambda *_: classifier())
    written(tmp_path / "a.mp4")
    done = command("predict", "--weights", "net.pth", "a.mp4", "--track")
    assert done.returncode == 2 and "net.pth is a classifier: leave out --track, which needs a" in done.stderr
    done = command("predict", "--weights", "net.pth", "a.mp4", "--track", "--parquet", "rows")
    assert done.returncode == 2 and "leave it out, or leave out --parquet." in done.stderr


def test_a_camera_until_ctrl_c(tmp_path, command, detector, monkeypatch):
    """Checks that Ctrl-C ends a camera stream with status 0, its rows and a readable video."""
    camera, capture, stream = Camera([10, 20, 30], rate=10), cv2.VideoCapture, detector.stream
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: camera if source == 0 else capture(source))

    def interrupted(images, score=None):
        camera.allowed.release()
        for result in stream(images, score):
            yield result
            raise KeyboardInterrupt

    monkeypatch.setattr(detector, "stream", interrupted)
    done = command(*WORDS, "0")
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [(row["video"], row["frame"], row["time"]) for row in rows] == [("0", 1, rows[0]["time"])]
    assert len(list(Video(tmp_path / "out/0001_camera0.mp4"))) >= 1


def test_ctrl_c_while_a_frame_of_a_camera_is_drawn(tmp_path, command, detector, monkeypatch):
    camera, capture, write = Camera([10, 20, 30], rate=10), cv2.VideoCapture, VideoWriter.write
    camera.allowed.release()
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: camera if source == 0 else capture(source))

    def interrupted(self, pixels, time):
        write(self, pixels, time)
        raise KeyboardInterrupt

    monkeypatch.setattr(VideoWriter, "write", interrupted)
    done = command(*WORDS, "0")
    assert done.returncode == 0, done.stderr
    assert "0001_camera0.mp4: 1 frame at 10 per second" in done.stdout
    assert json.loads((tmp_path / "rows.json").read_text()) == []  # without the interrupted frame


def test_a_cut_file_gives_the_results_so_far_and_status_2(tmp_path, command, detector):
    cut(tmp_path / "a.avi", 5)
    (tmp_path / "b.png").write_bytes(b"no image")
    done = command(*WORDS, "a.avi", "b.png")
    assert done.returncode == 2
    assert "resdet: 1 of 1 images cannot be read" in done.stderr and "a.avi: read 5 of 30 frames; the" in done.stderr
    assert [row.get("frame") for row in json.loads((tmp_path / "rows.json").read_text())] == [None, 1, 2, 3, 4, 5]
    assert len(list(Video(tmp_path / "out/0002_a.mp4"))) == 5


def test_frames_that_are_predicted_together_keep_their_times(tmp_path):
    video = Video(written(tmp_path / "a.mp4"))
    places = [place for place, _ in follow(video, lambda frames: iter(list(frames)))]
    assert [(place.frame, place.time) for place in places] == [(1, 0), (2, 0.08), (3, 0.16), (4, 0.24)]


def test_ctrl_c_in_a_file_keeps_the_drawn_frames(tmp_path, command, detector, monkeypatch):
    written(tmp_path / "a.mp4")
    stream = detector.stream

    def interrupted(frames, score=None):
        for number, result in enumerate(stream(frames, score)):
            if number == 2:
                raise KeyboardInterrupt
            yield result

    monkeypatch.setattr(detector, "stream", interrupted)
    done = command(*WORDS, "a.mp4")
    assert done.returncode == 130 and "interrupted" in done.stderr
    assert len(list(Video(tmp_path / "out/0001_a.mp4"))) == 2


def classifier() -> Classifier:
    torch.manual_seed(0)
    return Classifier(create("resnet18", num_classes=3), ["a", "b", "c"], Normalize(), 32, 32).eval()


@pytest.fixture(params=[lambda: tiny.make("fpn", False).eval(), classifier], ids=["detector", "classifier"])
def model(request, monkeypatch):
    """Returns a detector or a classifier, which `hub.load` returns for any file."""
    model = request.param()
    monkeypatch.setattr(hub, "load", lambda *_: model)
    return model


def test_a_classifier(tmp_path, command, monkeypatch):
    model = classifier()
    monkeypatch.setattr(hub, "load", lambda *_: model)
    written(tmp_path / "a.mp4")
    done = command("predict", "--weights", "net.pth", "a.mp4", "--json", "rows.json")
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["frame"] for row in rows] == [1, 2, 3, 4]
    assert all(
        sorted(row["names"]) == ["a", "b", "c"] and sum(row["scores"]) == pytest.approx(1, abs=1e-5) for row in rows
    )


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["a.jpg"], "No weights: give --weights FILE, or a published detector, as --weights torchvision/maskrcnn"),
        (["a.jpg", "--weights", "eval.score=0.5"], "No weights: give --weights FILE"),
        (["--weights", __file__, __file__, "x.jpg", "x.jpg"], "x.jpg: no such file or folder; check its name."),
        (["--weights", "torchvision/maskrcnn_resnet50_fpn_v2"], "No images to predict on: give image files, folders"),
        (["--weights", "net.pth", "absent.mp4"], "absent.mp4: no such file or folder; check its name."),
        (
            ["--weights", "net.pth", "--draw", "out", "absent.jpg"],
            "absent.jpg: no such file or folder; check its name.",
        ),
        (["--weights", "net.pth", "*.jpg"], "*.jpg matches no file: give another pattern, or the files."),
        (["--weights", "net.pth", "."], ". contains no images itself: give a glob such as './**/*.jpg'"),
        (["--weights", "net.pth", "nofolder"], "nofolder is not a file, a folder or a published model: check its name"),
        (
            ["--weights", "net.pth", "s3://a/b"],
            "s3://a/b is a file of many images, or an address of them: add --parquet",
        ),
        (["--weights", "net.pth", "9876"], "9876: cannot open the camera"),
        (["--weights", "torchvision/maskrcnn_resnet50", "--top", "1", __file__], "did you mean maskrcnn_resnet50"),
    ],
)
def test_missing_arguments_and_files_are_refused(words, sentence, command):
    done = command("predict", *words)
    assert done.returncode == 2 and sentence in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1 or "net.pth" in words


def test_unreadable_images_do_not_end_the_prediction(tmp_path, command, model):
    """Checks the rows of images around a damaged file, a broken link and a folder named like an image."""
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "c.png", "e.png"):
        cv2.imwrite(str(tmp_path / "photos" / name), np.zeros((48, 64, 3), np.uint8))
    (tmp_path / "photos/b.png").write_bytes(b"no image")
    (tmp_path / "photos/d.png").symlink_to(tmp_path / "absent.png")
    done = command("predict", "--weights", "net.pth", "photos", "--json", "rows.json")
    assert done.returncode == 2
    problem = "photos/b.png is not an image that OpenCV can decode."
    assert done.stderr == f"resdet: 2 of 5 images cannot be read and have no result; the first: {problem}\n"
    assert problem in done.stdout.splitlines() and "on_bad_image" not in done.stdout
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["image"] for row in rows] == [f"photos/{name}.png" for name in "abcde"]
    assert rows[1] == {"image": "photos/b.png", "error": problem}
    assert "photos/d.png: cannot read the file" in rows[3]["error"] and not any("error" in rows[k] for k in (0, 2, 4))


@pytest.mark.parametrize("name", ["a.tar", "A.TAR", "a.parquet", "a.tar.gz", "a.zip"])
def test_files_of_many_images_need_parquet(name, tmp_path, command):
    (tmp_path / name).write_bytes(b"")
    done = command("predict", "--weights", "net.pth", name)
    assert done.returncode == 2
    assert (
        done.stderr
        == f"resdet: {name} is a file of many images, or an address of them: add --parquet DIR for the results.\n"
    )
