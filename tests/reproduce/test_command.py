"""Tests `resdet reproduce` with a stand-in for the commands: order, interrupted and finished work, missing data."""

import json
import re
import signal
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from reproduce.finished_runs import write_last

import resdet
from resdet import config
from resdet.cli import run_words
from resdet.commands import reproduce
from resdet.errors import ConfigError, DataError, Error
from resdet.reproduce import needs, outcome
from resdet.reproduce.plan import Setting
from resdet.reproduce.tables import ROWS


class Resdet:
    """Records the commands and writes the files that `resdet` would write."""

    def __init__(self, steps: int = 10, error: float = 0.0871):
        self.steps, self.error, self.commands, self.processes = steps, error, [], {}

    def __call__(self, words, processes=1):
        self.commands.append(words[0])
        self.processes[words[0]] = processes
        if words[0] == "train":
            experiment = config.to_dict(config.load(words[2], *[word for word in words if "=" in word]))
            write_last(Path(words[words.index("--out") + 1]), config.plain(experiment), self.steps)
        if words[0] == "evaluate":
            content = {"images": 3, "error": self.error, "top5_error": 0.003, "per_class": {}}
            file = Path(words[words.index("--json") + 1])
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(content))


@pytest.fixture
def setting(tmp_path):
    (tmp_path / "data/cifar10/cifar-10-batches-py").mkdir(parents=True)
    return Setting(tmp_path / "out", tmp_path / "data")


def test_a_row_is_trained_evaluated_and_compared_with_the_paper(setting, capsys):
    rows, _ = reproduce.choose("table6", ["resnet20"])
    resdet = Resdet()
    (found,) = reproduce.reproduce(rows, [], setting, resdet)
    assert resdet.commands == ["train", "evaluate"]
    assert found["ours"] == {"error": 8.71} and found["difference"] == {"error": -0.04}
    assert json.loads((setting.out / "table6/resnet20.json").read_text()) == found
    assert (
        "| table6/resnet20 | ResNet-20 | top-1 error | 8.75 | 8.71 | -0.04 | the paper's |" in capsys.readouterr().out
    )


def test_table_1_counts_the_operations_of_the_models(setting, capsys):
    """Builds the models with `resdet nets`; tolerates the paper's rounding and the layers that the paper omits."""
    rows, _ = reproduce.choose("table1")
    found = reproduce.reproduce(rows, [], setting, run_words)
    assert all(abs(entry["difference"]["multiply_adds"]) < 0.1 for entry in found)
    assert "| table1/resnet18 | ResNet-18 | 10⁹ multiply-adds | 1.8 | 1.79 | -0.01 | none |" in capsys.readouterr().out
    line = outcome.rows_table(outcome.describe_rows(rows[:1], setting)).splitlines()[-1]
    assert "| 10⁹ multiply-adds 1.8 | 10⁹ multiply-adds 1.79 (2" in line and line.endswith("| seconds | nothing |")


def test_a_list_has_the_named_rows_only(capsys):
    run_words(["reproduce", "table1", "--list", "--row", "resnet34"])
    assert [line.split(" | ")[0] for line in capsys.readouterr().out.splitlines()[2:]] == ["| table1/resnet34"]


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["--row", "resnet20", "--dry-run"], "resnet20 is a row or a net: name its table or figure, too"),
        (["--row", "resnet20", "--list"], "resnet20 is a row or a net: name its table or figure, too"),
        (["figure6", "--list"], "figure6 has nets, not rows: `resdet reproduce figure6 --dry-run` lists them"),
    ],
)
def test_rows_without_a_table_and_lists_of_figures_are_refused(words, sentence):
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        run_words(["reproduce", *words])


def test_finished_work_is_not_repeated(setting):
    rows, _ = reproduce.choose("table6", ["resnet20"])
    reproduce.reproduce(rows, [], setting, Resdet())
    resdet = Resdet()
    (found,) = reproduce.reproduce(rows, [], setting, resdet)
    assert resdet.commands == [] and found["ours"] == {"error": 8.71}


def test_earlier_results_keep_their_date(setting, monkeypatch):
    rows, _ = reproduce.choose("table6", ["resnet20"])
    monkeypatch.setattr(outcome.time, "strftime", lambda form: "2026-01-02")
    reproduce.reproduce(rows, [], setting, Resdet())
    monkeypatch.setattr(outcome.time, "strftime", lambda form: "2026-03-04")
    (found,) = reproduce.reproduce(rows, [], setting, Resdet())
    assert found["date"] == "2026-01-02"


def test_an_interrupted_evaluation_is_repeated(setting):
    rows, _ = reproduce.choose("table6", ["resnet20"])
    reproduce.reproduce(rows, [], setting, Resdet())
    (circumstances,) = (setting.out / "tests").glob("*.circumstances.json")
    circumstances.unlink()
    (figures,) = (setting.out / "tests").iterdir()
    figures.write_text('{"images": 3, "err')
    resdet = Resdet()
    reproduce.reproduce(rows, [], setting, resdet)
    assert resdet.commands == ["evaluate"]


def test_an_interrupted_training_is_resumed_before_the_evaluation(setting):
    rows, _ = reproduce.choose("table6", ["resnet20"])
    with pytest.raises(Error, match="cifar10_resnet20 was stopped before its end"):
        reproduce.reproduce(rows, [], setting, Resdet(steps=4))
    assert not (setting.out / "table6/resnet20.json").exists()
    resdet = Resdet()
    reproduce.reproduce(rows, [], setting, resdet)
    assert resdet.commands == ["train", "evaluate"]


def test_a_finished_run_with_other_settings_is_rejected(setting):
    rows, _ = reproduce.choose("table6", ["resnet20"])
    reproduce.reproduce(rows, [], replace(setting, extra=("train.length=100",)), Resdet())
    resdet = Resdet()
    with pytest.raises(ConfigError, match="other settings .train.length is 100.0 there and 64000.0 here"):
        reproduce.reproduce(rows, [], setting, resdet)
    assert resdet.commands == []


@pytest.mark.parametrize("wanted, taken", [(1, 1), (8, 8), (3, 2)])
def test_the_number_of_processes_divides_the_batch(setting, wanted, taken, capsys):
    """Uses a batch of 128 images."""
    rows, _ = reproduce.choose("table6", ["resnet20"])
    resdet = Resdet()
    reproduce.reproduce(rows, [], replace(setting, processes=wanted), resdet)
    assert resdet.processes["train"] == taken and resdet.processes["evaluate"] == 1
    assert (f"cifar10_resnet20: uses {taken} of {wanted} processes" in capsys.readouterr().out) == (taken < wanted)


@pytest.mark.parametrize("count, options", [(2, ["--standalone", "--nproc-per-node", "2"]), (1, [])])
def test_several_processes_are_started_with_torchrun(monkeypatch, count, options):
    started = []

    def start(line, stdout):
        started.append(line)
        return nullcontext(SimpleNamespace(wait=lambda timeout: 0))

    monkeypatch.setattr(reproduce.subprocess, "Popen", start)
    reproduce.in_processes(["train", "--resume"], count)
    torchrun = ["-m", "torch.distributed.run", *options] if options else []
    assert started == [[sys.executable, *torchrun, "-m", "resdet.cli", "train", "--resume"]]


def test_a_signal_is_forwarded_once_and_the_training_awaited():
    class Training:
        waits, received = 0, []

        def wait(self, timeout):
            self.waits += 1
            if self.waits == 1:
                signal.raise_signal(signal.SIGTERM)
            if self.waits < 4:
                raise subprocess.TimeoutExpired("resdet", timeout)
            return 7

        def send_signal(self, number):
            self.received.append(number)

    training = Training()
    assert reproduce.wait_for(training) == 7 and training.received == [signal.SIGTERM]


def test_given_weights_are_evaluated_on_the_data_of_the_row(tmp_path):
    """Checks that the row's 32 images are used, not the checkpoint's 16, and that the recorded command has --use."""
    small = ("model.backbone=cifar_resnet8", "model.num_classes=10", "data.val_images=16")
    model = resdet.build("shapes_resnet20", *small)
    content = {"model": model.state_dict(), "experiment": model.experiment, "classes": model.classes}
    torch.save(content, tmp_path / "mine.pth")
    given = {"cifar10_resnet20": str(tmp_path / "mine.pth")}
    rows, _ = reproduce.choose("table6", ["resnet20"])
    (found,) = reproduce.reproduce(rows, [], Setting(tmp_path / "out", given=given, small=True), run_words)
    (file,) = set((tmp_path / "out/tests").iterdir()) - set((tmp_path / "out/tests").glob("*.circumstances.json"))
    assert json.loads(file.read_text())["images"] == 32
    assert found["command"] == f"resdet reproduce table6 --row resnet20 --use cifar10_resnet20={tmp_path / 'mine.pth'}"


def test_missing_data_is_reported_before_any_command(setting, capsys):
    rows, _ = reproduce.choose("table8", ["resnet101"])
    resdet = Resdet()
    with pytest.raises(DataError, match="Data of imagenet, coco is missing"):
        reproduce.reproduce(rows, [], setting, resdet)
    told = capsys.readouterr().err
    assert resdet.commands == [] and "ILSVRC2012_img_train.tar" in told
    assert re.search("instances_train2014.json.*320,000 steps of 8 images", told, re.DOTALL)


def test_evaluation_data_is_required_for_given_weights(tmp_path, capsys):
    """Checks missing boxes of a localizer whose weights are given and whose images are present."""
    for part in ("train", "val"):
        (tmp_path / "ILSVRC2012" / part).mkdir(parents=True)
    rows, _ = reproduce.choose("table13", ["classes"])
    resdet, given = Resdet(), {"imagenet_loc_r101": "mine.pth"}
    with pytest.raises(DataError, match="Data of ilsvrc_loc is missing"):
        reproduce.reproduce(rows, [], Setting(tmp_path / "out", tmp_path, given), resdet)
    told = capsys.readouterr().err
    assert resdet.commands == [] and "put bbox_val or" in told and "bbox_train" not in told


def test_all_missing_files_of_a_data_set_are_reported_together(tmp_path, capsys):
    rows, _ = reproduce.choose("segmentation")
    reproduce.reproduce(rows, [], Setting(tmp_path / "out", tmp_path), Resdet(), dry_run=True)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("# missing  coco")]
    assert "instances_train2014.json" in line and "instances_val2014.json" in line and "train2017" in line


def test_missing_cifar_is_downloaded(tmp_path):
    rows, _ = reproduce.choose("table6", ["resnet20"])
    resdet = Resdet()
    reproduce.reproduce(rows, [], Setting(tmp_path / "out", tmp_path / "none"), resdet)
    assert resdet.commands == ["data", "train", "evaluate"]


def test_a_dry_run_prints_commands_and_runs_none(setting, capsys):
    rows, figures = reproduce.choose("table6")
    resdet = Resdet()
    reproduce.reproduce(rows, figures, setting, resdet, dry_run=True)
    printed = capsys.readouterr().out.splitlines()
    assert resdet.commands == [] and not setting.out.exists()
    assert sum(line.startswith("resdet train --config cifar10_resnet") for line in printed) == 6
    assert (
        "# cost     cifar10_resnet20: 64,000 steps of 128 images: estimated 2.5 hours on two cores in bf16" in printed
    )


def test_results_of_a_server_are_not_compared_with_validation_results(setting, capsys):
    """Checks that the row is evaluated although no submission is written, since the test images are missing."""
    (row,), _ = reproduce.choose("table5")
    given = {name: "net.pth" for name in row.nets}
    (setting.data / "ILSVRC2012/val").mkdir(parents=True)
    resdet = Resdet()

    def launch(words):
        if "--submission" in words:
            raise DataError("there are no test images")
        resdet(words)

    (found,) = reproduce.reproduce([row], [], Setting(setting.out, setting.data, given), launch)
    assert found["ours"] == {"top5_error": 0.3} and found["difference"] == {}
    assert found["data"].startswith("validation images; the paper's metrics are from the ILSVRC 2012")
    assert "no submission for the ILSVRC 2012 classification server: there are no" in capsys.readouterr().err


def test_costs_include_all_models_and_the_evaluation():
    (ensemble,), _ = reproduce.choose("table5")
    assert outcome.cost_of_row(ensemble).startswith("6 times 600,000 steps")
    (scales,), _ = reproduce.choose("table9", ["scales"])
    assert re.fullmatch("320,000 steps .*; evaluation: .*", outcome.cost_of_row(scales))
    (found,), _ = reproduce.choose("table13", ["classes"])
    assert outcome.needs_of(found, Setting()) == ["ilsvrc_loc", "imagenet_r101"]


def test_errors_suggest_known_names():
    with pytest.raises(ConfigError, match="did you mean table6"):
        reproduce.choose("tabel6")
    with pytest.raises(ConfigError, match="use one of resnet20, resnet32"):
        reproduce.choose("table6", ["resnet21"])
    with pytest.raises(ConfigError, match="--use is imagenet_r11=a.pth"):
        reproduce.parse_given(["imagenet_r11=a.pth"])


def test_a_figure_of_selected_models():
    _, (figure,) = reproduce.choose("figure6", ["cifar10_resnet20", "cifar10_plain20"])
    assert figure.nets == ("cifar10_plain20", "cifar10_resnet20")
    with pytest.raises(ConfigError, match="figure6 has no row or net 'resnet20': use one of cifar10_plain20, "):
        reproduce.choose("figure6", ["resnet20"])


def test_the_list_shows_the_latest_result_of_a_row(tmp_path, monkeypatch):
    entry = {"row": "table6/resnet20", "ours": {"error": 8.6}, "command": "resdet train", "hardware": "two cores"}
    for date, error in (("2026-01-02", 8.6), ("2026-01-01", 9.9)):
        content = {**entry, "date": date, "ours": {"error": error}}
        (tmp_path / f"{date}.json").write_text(json.dumps(content))
    others = ({"date": "2026-01-03", "error": 1}, [{"row": 3}], {**entry, "date": "2026-01-04", "scale": "1/8"})
    for number, content in enumerate(others):
        (tmp_path / f"other{number}.json").write_text(json.dumps(content))
    (tmp_path / "damaged.json").write_bytes(b"\xff{")
    assert outcome.measured([tmp_path])["table6/resnet20"]["ours"] == {"error": 8.6}
    monkeypatch.setattr(outcome, "RESULTS", (tmp_path,))
    monkeypatch.setattr(outcome.measured, "__defaults__", ((tmp_path,),))
    row = next(row for row in ROWS if row.key == "table6/resnet20")
    line = outcome.rows_table(outcome.describe_rows([row], Setting())).splitlines()[-1]
    assert "top-1 error 8.75" in line and "8.6 (2026-01-02, `resdet train`, two cores)" in line and "2.5 hours" in line


def test_metrics_of_boxes_and_masks():
    content = {"bbox": {"AP": 0.272, "AP50": 0.484, "per_class": {}}, "segm": {"AP": 0.2}, "losses": {"class": 1.0}}
    assert outcome.metrics_in(content) == {"AP": 27.2, "AP50": 48.4, "mask_AP": 20.0}


def test_coco_trainval_is_merged_into_one_file(tmp_path):
    from resdet.detection.data.coco import open_coco

    (tmp_path / "annotations").mkdir()
    for number, half in enumerate(("train2014", "val2014"), start=1):
        image = {"id": number, "file_name": f"{half}_{number}.jpg", "width": 8, "height": 6}
        box = {"id": number, "image_id": number, "category_id": 3, "bbox": [0, 0, 4, 4], "area": 16, "iscrowd": 0}
        content = {"images": [image], "annotations": [box], "categories": [{"id": 3, "name": "car"}]}
        (tmp_path / f"annotations/instances_{half}.json").write_text(json.dumps(content))
    whole = open_coco(needs.write_trainval(tmp_path), tmp_path)
    assert list(whole.files) == ["train2014/train2014_1.jpg", "val2014/val2014_2.jpg"]
    assert whole.label_counts().tolist() == [2] and whole.classes == ["car"]
