"""ILSVRC object detection from video in its official layout: 30 classes, a folder of frames per video.

The root is the folder ILSVRC or ILSVRC2015, or its parent, with Annotations/VID/{train,val}/**.xml,
Data/VID/{train,val}/**.JPEG and ImageSets/VID/{train_1 … train_30,val}.txt, and the same folders of DET, whose training
images of the 30 classes are added. After editing XML files in place, remove the cache Annotations/VID/.resdet.
"""

from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np

from resdet.data.array_cache import Arrays
from resdet.detection.data.annotations import Annotations, concatenate
from resdet.detection.data.compile_annotations import Measured, OnBad, Problems
from resdet.detection.data.ilsvrc_classes import DET, VID
from resdet.detection.data.ilsvrc_det import home_of, jpeg, marks_in, open_indexed
from resdet.detection.data.motion import instance_ids, motion_ious
from resdet.detection.data.voc import Record, compile_records, read_records
from resdet.errors import DataError
from resdet.results.box_format import xyxy_to_xywh

WITHOUT_DET = ", or set data.det_images=0 to train on the videos only"


def open_train(root: Path | str, frames_per_video: int, det_images: int, on_bad: OnBad = "skip") -> Annotations:
    """Opens evenly spaced frames of each training video, and up to `det_images` DET training images per class.

    The videos are those of the lists train_1.txt to train_30.txt, without the videos of val.txt.
    """
    frames = open_train_frames(root, frames_per_video, on_bad)
    return concatenate([frames, open_det_images(root, det_images, on_bad)]) if det_images else frames


def open_train_frames(root: Path | str, frames_per_video: int, on_bad: OnBad = "skip") -> Annotations:
    home = home_of(root, "VID")
    annotations, images = home / "Annotations/VID/train", home / "Data/VID/train"
    lists = [list_of(home, "VID", f"train_{number}") for number in range(1, len(VID) + 1)]
    val = home / "ImageSets/VID/val.txt"
    sources = [*lists, *([val] if val.is_file() else [])]

    def read(problems: Problems, measured: Measured) -> Arrays:
        videos = training_videos(lists, val, problems)
        frames = {video: evenly(frames_in(annotations / video), frames_per_video) for video in videos}
        problems.leave_out("video", [video for video in videos if not frames[video]], "no XML files")
        stems = [f"{video}/{frame}" for video in videos for frame in frames[video]]
        records = read_records(annotations, measured, stems, jpeg, 0, problems)
        return compile_records(records, VID, problems)

    return open_indexed(f"ilsvrc-vid-train-{frames_per_video}", annotations, images, sources, read, on_bad)


def open_det_images(root: Path | str, per_class: int, on_bad: OnBad = "skip") -> Annotations:
    """Opens DET training images listed as positive for one of the 30 classes, evenly spaced in each list, without
    objects of other classes."""
    home = home_of(root, "DET", WITHOUT_DET)
    annotations, images = home / "Annotations/DET/train", home / "Data/DET/train"
    number_of = {synset: number for number, synset in enumerate(DET, 1)}
    lists = [list_of(home, "DET", f"train_{number_of[synset]}") for synset in VID]

    def read(problems: Problems, measured: Measured) -> Arrays:
        stems = {stem for file in lists for stem in evenly(fully_annotated(file), per_class)}
        records = read_records(annotations, measured, sorted(stems), jpeg, 0, problems)
        for record in records:
            record.objects = [item for item in record.objects if item.name in VID]
        records = [record for record in records if record.objects]
        return compile_records(records, VID, problems)

    return open_indexed(f"ilsvrc-vid-det-{per_class}", annotations, images, lists, read, on_bad)


def open_val(root: Path | str, frame_stride: int = 1, on_bad: OnBad = "skip") -> Annotations:
    """Opens every `frame_stride`-th frame of each validation video, with motion IoUs computed on all frames."""
    home = home_of(root, "VID")
    annotations, images = home / "Annotations/VID/val", home / "Data/VID/val"
    frames = list_of(home, "VID", "val")

    def read(problems: Problems, measured: Measured) -> Arrays:
        stems = list(marks_in([frames]))
        misnamed = [stem for stem in stems if not PurePath(stem).name.isdecimal()]
        problems.leave_out("frame", misnamed, "a name other than VIDEO/NUMBER")
        stems = [stem for stem in stems if PurePath(stem).name.isdecimal()]
        records = read_records(annotations, measured, stems, jpeg, 0, problems)
        image_columns, object_columns = video_columns(records)
        kept = image_columns["frame_ids"] % frame_stride == 0
        in_kept = np.repeat(kept, [len(record.objects) for record in records])
        arrays = compile_records(
            [record for record, keep in zip(records, kept) if keep],
            VID,
            problems,
            {name: column[in_kept] for name, column in object_columns.items()},
        )
        return arrays | {name: column[kept] for name, column in image_columns.items()}

    return open_indexed(f"ilsvrc-vid-val-{frame_stride}", annotations, images, [frames], read, on_bad)


def list_of(home: Path, task: str, name: str) -> Path:
    path = home / "ImageSets" / task / f"{name}.txt"
    if not path.is_file():
        raise DataError(f"{path} is missing: restore this list from the archive of ILSVRC {task}.")
    return path


def training_videos(lists: Sequence[Path], val: Path, problems: Problems) -> list[str]:
    """Returns the videos that the lists mark as containing objects, except those with frames in val.txt."""
    videos = sorted(video for video, marks in marks_in(lists).items() if marks != {"-1"})
    validated = {PurePath(stem).parent.name for stem in marks_in([val])} if val.is_file() else set()
    shared = [video for video in videos if PurePath(video).name in validated]
    problems.leave_out("video", shared, "frames in val.txt")
    return [video for video in videos if PurePath(video).name not in validated]


def fully_annotated(det_list: Path) -> list[str]:
    """Returns the images marked 1 in a class's list: all their objects of the class have boxes, unlike with mark 0."""
    return [stem for stem, marks in marks_in([det_list]).items() if "1" in marks]


def frames_in(video: Path) -> list[str]:
    return sorted(file.stem for file in video.glob("*.xml"))


def evenly(names: Sequence[str], count: int) -> list[str]:
    """Returns the middle elements of `count` equal parts, or all if there are fewer."""
    if len(names) <= count:
        return list(names)
    return [names[(2 * part + 1) * len(names) // (2 * count)] for part in range(count)]


def video_columns(records: Sequence[Record]) -> tuple[Arrays, Arrays]:
    """Returns the frame columns [N], `video_ids` and `frame_ids`, and the object columns [M], `instance_ids` (unique
    across videos), `occluded`, `generated` and `motion_ious`."""
    videos = [str(PurePath(record.stem).parent) for record in records]
    video_ids = np.unique(videos, return_inverse=True)[1].reshape(-1) + 1
    frame_ids = np.array([int(PurePath(record.stem).name) for record in records], np.int64)
    image_of = np.repeat(np.arange(len(records)), [len(record.objects) for record in records])
    objects = [item for record in records for item in record.objects]
    tracks = np.array([item.track for item in objects], np.int64)
    tracks = np.where(tracks < 0, -1 - np.arange(len(tracks)), tracks)  # without a track: a separate instance
    instances = instance_ids(video_ids[image_of], tracks)
    corners = np.array([item.box or (0, 0, 0, 0) for item in objects], np.float64).reshape(-1, 4)
    image_columns = {"video_ids": video_ids, "frame_ids": frame_ids}
    return image_columns, {
        "instance_ids": instances,
        "occluded": np.array([item.occluded for item in objects], bool),
        "generated": np.array([item.generated for item in objects], bool),
        "motion_ious": motion_ious(instances, frame_ids[image_of], xyxy_to_xywh(corners)),
    }
