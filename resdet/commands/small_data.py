"""`resdet bench small_data`: compares the recipes of custom.yaml and of torchvision's references on the user's data.

Both sides train Faster R-CNN from the same ImageNet weights on the same images. resdet trains for a number of steps in
fp32; torchvision then trains for the same CPU time.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from resdet import config
from resdet.bench import torchvision_recipe
from resdet.bench.recipe_rows import OURS, PEER, RecipeRows, table
from resdet.commands.train import train
from resdet.detection.config import DetectionExperiment
from resdet.detection.data.sources import open_scenes
from resdet.detection.formats.data_set import sample_images
from resdet.engine.callbacks import Callback
from resdet.engine.run import Run
from resdet.errors import ConfigError, DataError
from resdet.files.atomic import write_json
from resdet.timing import torch_threads

BATCH = 2  # images per step


@dataclass(frozen=True)
class Setting:
    """Settings shared by all rows of a comparison."""

    data: str  # a folder that custom.yaml recognizes
    weights: str  # weights of an ImageNet classifier
    overrides: list[str] = field(default_factory=list)  # settings that override custom.yaml
    steps: int = 80  # training steps of resdet
    share: float = 1.0  # share of the training images
    size: list[int] = field(default_factory=lambda: [320, 427])  # short and long side of the images
    peer_lr: float = 0.01
    threads: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ConfigError(f"--share is {self.share:g}: give a share of the images, above 0 and at most 1.")
        for name in ("steps", "peer_lr", "threads"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"--{name.replace('_', '-')} is {getattr(self, name)}: give more than 0.")


def small_data(setting: Setting, seeds: Sequence[int], json_path: str | None = None) -> dict[str, Any]:
    """Trains both sides with each seed; prints the rows and their mean difference, and returns them.

    `json_path` is written after each training run; rows that it already contains are not measured again.
    """
    rows = RecipeRows(json_path, asdict(setting))
    with torch_threads(setting.threads):
        for seed in seeds:
            if not (rows.find(seed, OURS) and rows.find(seed, PEER)):
                measure(rows, setting, seed)
    print(table(rows.rows))
    return rows.content()


def measure(rows: RecipeRows, setting: Setting, seed: int) -> None:
    """Measures and adds the missing rows of a seed."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        experiment = experiment_of(setting, seed, folder)
        torchvision_recipe.check(experiment)
        source = open_scenes(experiment.scenes, "train")
        if not source.label_counts().any():
            raise DataError(f"None of the {len(source)} training images has objects: give more data, or more of them.")
        images = {"images": len(source)}
        row = rows.find(seed, OURS) or rows.add(seed, OURS, images | train_ours(experiment, folder / "run"))
        if not rows.find(seed, PEER):
            peer = torchvision_recipe.train(experiment, row["cpu_seconds"], setting.peer_lr)
            rows.add(seed, PEER, images | peer)


def experiment_of(setting: Setting, seed: int, folder: Path) -> DetectionExperiment:
    """Returns the experiment of custom.yaml for a seed; if `share` is below 1, writes COCO files to `folder`."""
    short, longest = setting.size
    values = {
        "model.input.min_size": short, "model.input.max_size": longest, "data.augment.min_size": [short],
        "data.augment.max_size": longest, "data.workers": 0, "train.batch": BATCH, "train.length": setting.steps,
        "train.evaluate_every": setting.steps, "train.checkpoint_every": setting.steps, "train.seed": seed,
        "train.precision": "fp32", "train.device": "cpu", "train.loggers": [],
        "eval.losses": "false",
    }  # fmt: skip
    words = [f"{key}={value}" for key, value in values.items()]
    experiment = config.load("custom.yaml", *words, *setting.overrides)
    paths = {"data.root": setting.data, "model.pretrained": setting.weights}
    experiment = config.with_values(experiment, paths, "the options --data and --weights")
    detection = cast(DetectionExperiment, experiment)
    return detection if setting.share == 1 else with_share(detection, setting.share, seed, folder)


def with_share(experiment: DetectionExperiment, share: float, seed: int, folder: Path) -> DetectionExperiment:
    """Returns the experiment with a share of its training images, and all of its validation images."""
    values: dict[str, Any] = {"data.root": str(folder)}
    for split in ("train", "val"):
        source, file = open_scenes(experiment.scenes, split), folder / f"{split}.json"
        content = source.to_coco()
        if split == "train":
            content = sample_images(content, max(1, round(share * len(source))), seed)
        write_json(file, content)
        values |= {f"data.{split}.images": str(Path(source.root).absolute()), f"data.{split}.annotations": str(file)}
    return cast(DetectionExperiment, config.with_values(experiment, values, "the option --share"))


def train_ours(experiment: DetectionExperiment, folder: Path) -> dict[str, Any]:
    watch = Stopwatch()
    metrics = train(experiment, str(folder), callbacks=[watch])
    if not metrics:  # a signal stopped the run
        raise KeyboardInterrupt
    return {"steps": watch.steps, "cpu_seconds": round(watch.seconds, 1), **metrics}


class Stopwatch(Callback):
    """Counts steps, and CPU seconds of this process from the start of training to the end of the last step."""

    steps, seconds = 0, 0.0

    def on_train_start(self, run: Run) -> None:
        self.start = time.process_time()

    def on_step_end(self, step: int, values: Mapping[str, float]) -> None:
        self.steps, self.seconds = step, time.process_time() - self.start
