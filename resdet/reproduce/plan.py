"""From rows to the commands that make them, each command once, in an order in which all can run."""

import shlex
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resdet import config
from resdet.reproduce import smoke
from resdet.reproduce.records import Row, Training
from resdet.reproduce.trainings import TRAININGS

DATA_FOLDERS = {"cifar10": "cifar10", "imagenet": "ILSVRC2012", "ilsvrc_loc": "ILSVRC2012", "ilsvrc_det": "ILSVRC"}
DATA_FOLDERS |= {"coco": "coco", "voc": "VOCdevkit"}


@dataclass(frozen=True)
class Setting:
    """Where a reproduction reads and writes."""

    out: Path = Path("runs/reproduce")
    data: Path = Path("datasets")  # holds the data sets by their names there: cifar10, ILSVRC2012, coco, …
    given: Mapping[str, str] = field(default_factory=dict)  # training -> weights to take instead of running it
    extra: tuple[str, ...] = ()  # overrides of every training
    small: bool = False  # on generated data, in miniature
    processes: int = 1  # that train together, as torchrun starts them

    def folder(self, training: Training) -> Path:
        return self.out / training.name

    def weights(self, name: str) -> str:
        """What stands for the trained net: its last weights.

        The best ones of a run are chosen on the very images that the paper's figures are told of.
        """
        training = TRAININGS[name]
        return self.given.get(name, str(self.folder(training) / training.part / "last.pth"))

    def experiment(self, training: Training) -> Any:
        """What is trained, at full size."""
        return config.load(training.config, *training.overrides)

    def overrides(self, training: Training) -> list[str]:
        """The training's own; generated data has no sets to choose from."""
        return [word for word in training.overrides if not (self.small and word.startswith("data."))]

    def data_root(self, name: str) -> Path:
        return self.data / DATA_FOLDERS[name]

    def data_words(self, experiment: Any) -> list[str]:
        """The data set of an experiment, at its place below `data`, or the generated one."""
        if self.small:
            return smoke.data_words(experiment, self.out)
        return [f"data.root={self.data_root(experiment.data.name)}"]


@dataclass(frozen=True)
class Evaluation:
    """An evaluation that rows may share."""

    words: tuple[str, ...]
    file: Path  # which holds its figures

    @property
    def circumstances(self) -> Path:
        """When, on what and by which versions they were found: written last, so that it tells that all is done."""
        return self.file.with_suffix(".circumstances.json")


def trainings_for(names: Iterable[str], given: Iterable[str] = ()) -> list[Training]:
    """These and all that they start from, those first, without what is given."""
    found: dict[str, Training] = {}

    def add(name: str) -> None:
        if name in found or name in given:
            return
        for earlier in TRAININGS[name].before:
            add(earlier)
        found[name] = TRAININGS[name]

    for name in names:
        add(name)
    return list(found.values())


def nets_of(rows: Iterable[Row]) -> list[str]:
    return [name for row in rows for name in (*row.nets, *row.classifiers)]


def train_words(training: Training, setting: Setting) -> list[str]:
    """The arguments of `resdet` that train it, or go on with it."""
    words = ["train", "--config", training.config, "--out", str(setting.folder(training)), "--resume"]
    if training.start:
        words += ["--init", setting.weights(training.start)]
    return [*words, *train_overrides(training, setting)]


def train_overrides(training: Training, setting: Setting) -> list[str]:
    """The settings among them."""
    experiment = setting.experiment(training)
    words = [*setting.overrides(training), *setting.data_words(experiment)]
    if training.proposer:
        words.append(f"model.proposer={setting.weights(training.proposer)}")
    if setting.small:
        words += smoke.train_words(experiment)
    return [*words, *setting.extra]


def processes_for(training: Training, setting: Setting) -> int:
    """As many of those wanted as share its batch evenly; of alternating training the batches of both halves."""
    experiment = config.load(training.config, *train_overrides(training, setting))
    parts = getattr(experiment, "alternating", None)
    halves = [parts.rpn.batch, parts.regions.batch] if parts else []
    shares = [batch // experiment.train.accumulate for batch in (experiment.train.batch, *halves)]
    return max(count for count in range(1, setting.processes + 1) if not any(share % count for share in shares))


def evaluation_of(row: Row, setting: Setting) -> Evaluation:
    """The evaluation of a row."""
    words = ["nets", row.counted] if row.counted else evaluate_words(row, setting)
    file = setting.out / "tests" / f"{row.counted or row.nets[0]}-{zlib.crc32(shlex.join(words).encode()):08x}.json"
    return Evaluation((*words, "--json", str(file)), file)


def submission_words(row: Row, setting: Setting) -> list[str]:
    """The command that writes the file for the test server."""
    stem = f"{row.table}-{row.name.replace('_', '-')}"
    kind = setting.experiment(TRAININGS[row.nets[0]]).data.name
    named = {"coco": f"detections_test-dev2015_{stem}_results.zip", "voc": f"comp4_{stem}.tar.gz"}
    file = setting.out / "submissions" / named.get(kind, f"{stem}.txt")
    return [*evaluate_words(row, setting), *row.server_data, "--submission", str(file)]


def evaluate_words(row: Row, setting: Setting) -> list[str]:
    """On the data and by the settings of the row, whatever the weights say of theirs."""
    training = TRAININGS[row.nets[0]]
    tested = row.test_config or training.config
    words = ["evaluate", "--weights", *(setting.weights(name) for name in row.nets), "--config", tested]
    if row.classifiers:
        words += ["--classifier", *(setting.weights(name) for name in row.classifiers)]
    if not row.test_config:
        words += [word for word in setting.overrides(training) if word.startswith(("data.", "eval."))]
    words += [*setting.data_words(setting.experiment(training)), *setting.extra, *row.test]
    if setting.small:
        words += smoke.test_words(config.load(tested), row.test)
    return words


def cost_of(name: str) -> str:
    """What the header of a config says of its cost."""
    lines = config.find(name).read_text(encoding="utf-8").splitlines()
    header = [line.lstrip("#").rstrip() for line in lines if line.startswith("#")]
    start = next((i for i, line in enumerate(header) if line.split()[:1] == ["cost"]), None)
    if start is None:
        return "not told"
    found = [header[start].split(maxsplit=1)[1]]
    for line in header[start + 1 :]:
        if not line.startswith(" " * 8):
            break
        found.append(line.strip())
    return " ".join(found)


def command(words: Sequence[str]) -> str:
    """As it is typed."""
    return shlex.join(["resdet", *words])
