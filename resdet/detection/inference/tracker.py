"""Tracking of objects through the frames of a video, after ByteTrack (arXiv 2110.06864).

Detections continue tracks of their class by the IoU with the position that a Kalman filter predicts. Detections with
low scores, often of occluded objects, only continue tracks that the others leave.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from resdet.detection.inference import kalman
from resdet.ops.boxes import iou
from resdet.results.result import Result

START = 0.5  # lowest score of a detection that starts a track
LOW = 0.1  # lowest score of a detection that continues a track
MATCH_IOU, LOW_IOU, CONFIRM_IOU = 0.2, 0.5, 0.3  # IoU thresholds: of tracks, with low scores, and of new tracks


@dataclass
class Track:
    """An object of a class; `id` is 0 until a second frame confirms it."""

    label: int
    state: np.ndarray  # [5, 4], of the Kalman filter
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
        self.predict()
        high = np.flatnonzero(result.scores >= self.score)
        found = self.associate(result, high)
        new = [row for row in high.tolist() if row not in found]
        states = kalman.start(result.boxes[new])
        started = {row: Track(int(result.labels[row]), state) for row, state in zip(new, states)}
        # Objects in the first frame of the video need no confirmation.
        shown = dict(sorted((found | started if self.first else found).items()))
        for track in shown.values():
            if not track.id:
                self.last_id += 1
                track.id = self.last_id
        self.first = False
        self.tracks = [*filter(self.continues, self.tracks), *started.values()]
        return replace(result.select([*shown]), track_ids=np.array([track.id for track in shown.values()], np.int64))

    def predict(self) -> None:
        """Moves the tracks to the next frame."""
        if self.tracks:
            lost = np.array([track.missed > 0 for track in self.tracks])
            for track, state in zip(self.tracks, kalman.predict(states_of(self.tracks), lost)):
                track.state = state
                track.missed += 1

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
    predicted, detected = kalman.boxes_of(states_of(tracks)), result.boxes[rows].astype(float)
    overlaps = iou(torch.from_numpy(predicted), torch.from_numpy(detected)).numpy()
    excess = np.where(same, overlaps - least, 0).clip(0)
    pairs = np.stack(linear_sum_assignment(excess, maximize=True), 1)
    pairs = pairs[excess[tuple(pairs.T)] > 0]
    found = [tracks[i] for i in pairs[:, 0]]
    for track, state in zip(found, kalman.update(states_of(found), detected[pairs[:, 1]]) if found else ()):
        track.state, track.missed = state, 0
    return dict(zip(rows[pairs[:, 1]].tolist(), found))


def states_of(tracks: Sequence[Track]) -> np.ndarray:
    """Stacks the states of one track or more: [n, 5, 4]."""
    return np.stack([track.state for track in tracks])
