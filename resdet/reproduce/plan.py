"""Turns rows into the commands that reproduce them, without duplicates and with dependencies first."""

import shlex
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from resdet import config
from resdet.config.experiment import Experiment
from resdet.reproduce import scale, smoke
from resdet.reproduce.records import Row, Training
from resdet.reproduce.trainings import TRAININGS

DATA_FOLDERS = {"cifar10": "cifar10", "imagenet": "ILSVRC2012", "ilsvrc_loc": "ILSVRC2012", "ilsvrc_det": "ILSVRC"}
DATA_FOLDERS |= {"coco": "coco", "voc": "VOCdevkit"}


@dataclass(frozen=True)
class Setting:
    """Folders and options of a reproduction."""

    out: Path = Path("runs/reproduce")
    data: Path = Path("datasets")  # contains the folders in DATA_FOLDERS
    given: Mapping[str, str] = field(default_factory=dict)  # training -> weights to use instead of training
    extra: tuple[str, ...] = ()  # overrides for every training and evaluation
    small: bool = False  # run in miniature on generated data
    processes: int = 1  # number of training processes
    mode: str = "exact"  # mode of evaluations
    scale: Fraction = Fraction(1)  # factor for all training lengths

    def folder(self, training: Training) -> Path:
        return self.out / training.name

    def weights(self, name: str) -> str:
        """Returns the weights file of a training: the last checkpoint, as the best one is selected on test images."""
        training = TRAININGS[name]
        return self.given.get(name, str(self.folder(training) / training.part / "last.pth"))

    def experiment(self, training: Training) -> Experiment:
        """Returns the experiment of a training at full size."""
        return config.load(training.config, *training.overrides)

    def overrides(self, training: Training) -> list[str]:
        """Returns the overrides of a training, without those of `data` if the data are generated."""
        return [word for word in training.overrides if not (self.small and word.startswith("data."))]

    def data_root(self, name: str) -> Path:
        return self.data / DATA_FOLDERS[name]

    def data_words(self, experiment: Experiment) -> list[str]:
        """Returns overrides that set the data set folder, or select generated data."""
        if self.small:
            return smoke.data_words(experiment, self.out)
        return [f"data.root={self.data_root(experiment.data.name)}"]


@dataclass(frozen=True)
class Evaluation:
    """An evaluation, which several rows may share."""

    words: tuple[str, ...]
    file: Path  # JSON file with the metrics

    @property
    def circumstances(self) -> Path:
        """File with date, hardware and versions; written last, to mark the evaluation as finished."""
        return self.file.with_suffix(".circumstances.json")


def trainings_for(names: Iterable[str], given: Iterable[str] = ()) -> list[Training]:
    """Returns the named trainings and their dependencies, dependencies first, without those in `given`."""
    ordered: dict[str, Training] = {}

    def add(name: str) -> None:
        if name in ordered or name in given:
            return
        for earlier in TRAININGS[name].before:
            add(earlier)
        ordered[name] = TRAININGS[name]

    for name in names:
        add(name)
    return list(ordered.values())


def nets_of(rows: Iterable[Row]) -> list[str]:
    return [name for row in rows for name in (*row.nets, *row.classifiers)]


def train_words(training: Training, setting: Setting) -> list[str]:
    """Returns the arguments of `resdet` that start or resume a training."""
    words = ["train", "--config", training.config, "--out", str(setting.folder(training)), "--resume"]
    if training.start:
        words += ["--init", setting.weights(training.start)]
    return [*words, *train_overrides(training, setting)]


def train_overrides(training: Training, setting: Setting) -> list[str]:
    """Returns the overrides in `train_words`."""
    experiment = setting.experiment(training)
    words = [*setting.overrides(training), *setting.data_words(experiment)]
    if training.proposer:
        words.append(f"model.proposer={setting.weights(training.proposer)}")
    if setting.small:
        words += smoke.train_words(experiment)
    words += scale.train_words(experiment, setting.scale)
    return [*words, *setting.extra]


def processes_for(training: Training, setting: Setting) -> int:
    """Returns the largest number of processes, up to `setting.processes`, that divides the batch of each step."""
    experiment = config.load(training.config, *train_overrides(training, setting))
    parts = getattr(experiment, "alternating", None)
    halves = [parts.rpn.batch, parts.regions.batch] if parts else []
    shares = [batch // experiment.train.accumulate for batch in (experiment.train.batch, *halves)]
    return max(count for count in range(1, setting.processes + 1) if not any(share % count for share in shares))


def evaluation_of(row: Row, setting: Setting) -> Evaluation:
    """Returns the evaluation of a row."""
    words = ["nets", row.counted] if row.counted else evaluate_words(row, setting)
    file = setting.out / "tests" / f"{row.counted or row.nets[0]}-{zlib.crc32(shlex.join(words).encode()):08x}.json"
    return Evaluation((*words, "--json", str(file)), file)


def submission_words(row: Row, setting: Setting) -> list[str]:
    """Returns the arguments of `resdet` that write the file for the test server."""
    stem = f"{row.table}-{row.name.replace('_', '-')}"
    kind = setting.experiment(TRAININGS[row.nets[0]]).data.name
    names = {"coco": f"detections_test-dev2015_{stem}_results.zip", "voc": f"comp4_{stem}.tar.gz"}
    file = setting.out / "submissions" / names.get(kind, f"{stem}.txt")
    return [*evaluate_words(row, setting), *row.server_data, "--submission", str(file)]


def evaluate_words(row: Row, setting: Setting) -> list[str]:
    """Returns the arguments of `resdet` that evaluate a row, with the row's data and settings, not the checkpoint's."""
    training = TRAININGS[row.nets[0]]
    test_config = row.test_config or training.config
    words = ["evaluate", "--weights", *(setting.weights(name) for name in row.nets), "--config", test_config]
    if row.classifiers:
        words += ["--classifier", *(setting.weights(name) for name in row.classifiers)]
    if not row.test_config:
        words += [word for word in setting.overrides(training) if word.startswith(("data.", "eval."))]
    words += [*setting.data_words(setting.experiment(training)), *setting.extra, *row.test]
    words += ["--mode", setting.mode] if setting.mode != "exact" else []
    if setting.small:
        words += smoke.test_words(config.load(test_config), row.test)
    return words


def cost_of(name: str) -> str:
    """Returns the `cost` entry in the header of a config."""
    lines = config.find(name).read_text(encoding="utf-8").splitlines()
    header = [line.lstrip("#").rstrip() for line in lines if line.startswith("#")]
    start = next((i for i, line in enumerate(header) if line.split()[:1] == ["cost"]), None)
    if start is None:
        return "unknown"
    entry = [header[start].split(maxsplit=1)[1]]
    for line in header[start + 1 :]:
        if not line.startswith(" " * 8):
            break
        entry.append(line.strip())
    return " ".join(entry)


def command(words: Sequence[str]) -> str:
    """Formats the shell command `resdet WORDS`."""
    return shlex.join(["resdet", *words])
