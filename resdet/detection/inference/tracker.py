"""Tracking of objects through the frames of a video, after ByteTrack (arXiv 2110.06864).

Detections continue tracks of their class by the IoU with the position that a Kalman filter predicts. Detections with
low scores, often of occluded objects, only continue tracks that the others leave.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from resdet.ops.boxes import iou
from resdet.results.result import Result

START = 0.5  # lowest score of a detection that starts a track
LOW = 0.1  # lowest score of a detection that continues a track
MATCH_IOU, LOW_IOU, CONFIRM_IOU = 0.2, 0.5, 0.3  # IoU thresholds: of tracks, with low scores, and of new tracks
POSITION, VELOCITY = 1 / 20, 1 / 160  # standard deviations per frame, as shares of the box's width and height


class Motion:
    """A Kalman filter with constant velocity for the center, the width and the height of a box.

    The noise of the four is independent, so that each has a filter of two states: its value and its velocity.
    """

    def __init__(self, box: np.ndarray):
        self.value, self.velocity = centered(box), np.zeros(4)
        # covariance matrices [4]: of the value, of both, of the velocity
        self.variance = (2 * POSITION * self.sides) ** 2
        self.covariance, self.velocity_variance = np.zeros(4), (10 * VELOCITY * self.sides) ** 2

    @property
    def sides(self) -> np.ndarray:
        """Width and height, the scales of the noise: [4]."""
        return np.tile(self.value[2:].clip(1), 2)

    @property
    def box(self) -> np.ndarray:
        """xyxy [4]."""
        half = self.value[2:].clip(0) / 2
        return np.concatenate([self.value[:2] - half, self.value[:2] + half])

    def predict(self, lost: bool) -> None:
        """Advances by one frame; `lost`: the object was not detected in the last one, so its size does not change."""
        if lost:
            self.velocity[2:] = 0
        self.value = self.value + self.velocity
        self.variance = self.variance + 2 * self.covariance + self.velocity_variance + (POSITION * self.sides) ** 2
        self.covariance = self.covariance + self.velocity_variance
        self.velocity_variance = self.velocity_variance + (VELOCITY * self.sides) ** 2

    def update(self, box: np.ndarray) -> None:
        """Corrects the state by a detected box xyxy [4]."""
        total = self.variance + (POSITION * self.sides) ** 2
        gain, velocity_gain = self.variance / total, self.covariance / total
        difference = centered(box) - self.value
        self.value, self.velocity = self.value + gain * difference, self.velocity + velocity_gain * difference
        self.velocity_variance = self.velocity_variance - velocity_gain * self.covariance
        self.variance, self.covariance = (1 - gain) * self.variance, (1 - gain) * self.covariance


def centered(box: np.ndarray) -> np.ndarray:
    """Converts xyxy [4] to center, width and height, float64 [4]."""
    low, high = box[:2].astype(float), box[2:].astype(float)
    return np.concatenate([(low + high) / 2, high - low])


@dataclass
class Track:
    """An object of a class; `id` is 0 until a second frame confirms it."""

    label: int
    motion: Motion
    id: int = 0
    missed: int = 0  # frames since the last detection


class Tracker:
    """Assigns the detections of successive frames to tracks, with ids from 1.

    `score`: lowest score of a detection that starts a track; `lost`: number of frames without a detection after which a
    track ends. Detections with scores from 0.1 to `score` continue tracks, so predict with `score=0.1`.
    """

    def __init__(self, score: float = START, lost: int = 30):
        self.score, self.lost = score, lost
        self.tracks: list[Track] = []
        self.last_id = 0
        self.first = True

    def update(self, result: Result) -> Result:
        """Returns the detections of the next frame that belong to confirmed tracks, with `track_ids`."""
        for track in self.tracks:
            track.motion.predict(lost=track.missed > 0)
            track.missed += 1
        high = np.flatnonzero(result.scores >= self.score)
        found = self.associate(result, high)
        started = {
            row: Track(int(result.labels[row]), Motion(result.boxes[row])) for row in high.tolist() if row not in found
        }
        # Objects in the first frame of the video need no confirmation.
        shown = dict(sorted((found | started if self.first else found).items()))
        for track in shown.values():
            if not track.id:
                self.last_id += 1
                track.id = self.last_id
        self.first = False
        self.tracks = [*filter(self.continues, self.tracks), *started.values()]
        return replace(result.select([*shown]), track_ids=np.array([track.id for track in shown.values()], np.int64))

    def associate(self, result: Result, high: np.ndarray) -> dict[int, Track]:
        """Returns the tracks that detections continue, by detection; `high`: detections with a score above `score`."""
        confirmed = [track for track in self.tracks if track.id]
        found = matched(confirmed, result, high, MATCH_IOU)
        recent = [track for track in confirmed if track.missed == 1]  # detected in the last frame, not yet in this one
        low = np.flatnonzero((result.scores < self.score) & (result.scores >= LOW))
        found |= matched(recent, result, low, LOW_IOU)
        rest = np.array([row for row in high.tolist() if row not in found], int)
        return found | matched([track for track in self.tracks if not track.id], result, rest, CONFIRM_IOU)

    def continues(self, track: Track) -> bool:
        """Whether a track goes on: if detected, or, once confirmed, for up to `lost` frames without a detection."""
        return track.missed <= (self.lost if track.id else 0)


def matched(tracks: Sequence[Track], result: Result, rows: np.ndarray, least: float) -> dict[int, Track]:
    """Assigns detections to tracks of their class with an IoU above `least`, so that the sum of the excess is highest;
    updates these tracks and returns them by detection."""
    if not tracks or not len(rows):
        return {}
    same = np.array([track.label for track in tracks])[:, None] == result.labels[rows]
    predicted = np.stack([track.motion.box for track in tracks])
    overlaps = iou(torch.from_numpy(predicted), torch.from_numpy(result.boxes[rows].astype(float))).numpy()
    excess = np.where(same, overlaps - least, 0).clip(0)
    pairs = [(i, j) for i, j in zip(*linear_sum_assignment(excess, maximize=True)) if excess[i, j] > 0]
    for i, j in pairs:
        tracks[i].motion.update(result.boxes[rows[j]])
        tracks[i].missed = 0
    return {int(rows[j]): tracks[i] for i, j in pairs}
