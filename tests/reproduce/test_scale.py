"""Tests `resdet reproduce --scale`, which multiplies all training lengths and labels the results."""

import json
from dataclasses import replace
from fractions import Fraction

import pytest
from reproduce.test_command import Resdet

from resdet import config
from resdet.cli import run_words
from resdet.commands import reproduce
from resdet.errors import ConfigError
from resdet.reproduce import outcome, scale
from resdet.reproduce.plan import Setting, train_overrides
from resdet.reproduce.records import Figure
from resdet.reproduce.trainings import TRAININGS


@pytest.fixture
def setting(tmp_path):
    (tmp_path / "data/cifar10/cifar-10-batches-py").mkdir(parents=True)
    return Setting(tmp_path / "out", tmp_path / "data", scale=Fraction(1, 8))


def scaled(name, setting):
    training = TRAININGS[name]
    return config.load(training.config, *train_overrides(training, setting))


def test_the_cifar_recipe_at_an_eighth(setting):
    """Checks 8,000 iterations with learning rate drops at 4,000 and 6,000."""
    experiment = scaled("cifar10_plain56", setting)
    assert (experiment.train.length, experiment.schedule.milestones) == (8000, [4000, 6000])
    assert (experiment.train.evaluate_every, experiment.train.batch, experiment.optim.lr) == (500, 128, 0.1)


def test_epochs_may_be_fractional(setting):
    experiment = scaled("imagenet_r50", replace(setting, scale=Fraction(1, 7)))
    assert experiment.train.unit == "epochs" and experiment.train.length == pytest.approx(120 / 7)


def test_steps_are_integers_of_at_least_one(setting):
    experiment = scaled("cifar10_resnet110", replace(setting, scale=Fraction(1, 3000)))
    assert (experiment.train.length, experiment.train.evaluate_every) == (21, 1)
    assert experiment.schedule.warmup_until_error == 0.8


def test_each_step_of_alternating_training_is_scaled(setting):
    whole, experiment = (scaled("coco_r101_alternating", replace(setting, scale=Fraction(1, n))) for n in (1, 8))
    for name in ("rpn", "regions"):
        before, after = getattr(whole.alternating, name), getattr(experiment.alternating, name)
        assert after.length == before.length / 8
        assert after.milestones == [each / 8 for each in before.milestones]


@pytest.mark.parametrize(
    "names, fraction, positions, rounded",
    [
        (("cifar10_plain56",), "1/50000", "32000, 48000, 64000", "1, 1, 1"),
        (("imagenet_r50", "coco_r101_alternating"), "1/300000", "240000, 320000", "1, 1"),
    ],
)
def test_a_fraction_without_steps_between_milestones_is_refused_before_the_first_training(
    setting, names, fraction, positions, rounded
):
    resdet = Resdet()
    for dry_run in (True, False):
        with pytest.raises(ConfigError) as refused:
            figure = Figure("figure", "title", names, "curves")
            reproduce.reproduce([], [figure], replace(setting, scale=Fraction(fraction)), resdet, dry_run)
        assert str(refused.value) == (
            f"--scale is {fraction}, which rounds the steps {positions} of {names[-1]} (milestones and length) to "
            f"{rounded}: give a larger fraction."
        )
    assert not resdet.commands


def test_a_fraction_may_leave_one_step_between_milestones(setting):
    setting = replace(setting, scale=Fraction(1, 16000))
    scale.check("a name", setting.experiment(TRAININGS["cifar10_plain56"]), setting.scale)
    experiment = scaled("cifar10_plain56", setting)
    assert (experiment.train.length, experiment.schedule.milestones) == (4, [2, 3])


def test_costs_are_those_of_the_scaled_length(setting, capsys):
    rows, _ = reproduce.choose("table6", ["resnet20"])
    reproduce.reproduce(rows, [], setting, Resdet(), dry_run=True)
    assert "# cost     cifar10_resnet20: 1/8 of that of the full length, 64,000 steps" in capsys.readouterr().out
    reproduce.reproduce(rows, [], replace(setting, scale=Fraction(1), small=True), Resdet(), dry_run=True)
    assert "# cost" not in capsys.readouterr().out


def test_a_scaled_row_is_labeled_and_not_compared(setting, capsys, monkeypatch):
    rows, _ = reproduce.choose("table6", ["resnet20"])
    (entry,) = reproduce.reproduce(rows, [], setting, Resdet())
    assert (entry["scale"], entry["difference"]) == ("1/8", {})
    assert entry["command"] == "resdet reproduce table6 --row resnet20 --scale 1/8"
    assert "8.71 |  | the paper's, with 1/8 of its training lengths: not comparable |" in capsys.readouterr().out
    (setting.out / "results").mkdir()
    (setting.out / "results/scaled.json").write_text(json.dumps(entry))
    assert outcome.measured([setting.out / "results"]) == {}


def test_the_title_of_a_figure_includes_the_scale(setting, monkeypatch):
    titles = []
    monkeypatch.setattr("resdet.reproduce.figures.draw", lambda figure, *_: titles.append(figure.title) or [])
    _, figures = reproduce.choose("figure6", ["cifar10_resnet20"])
    reproduce.reproduce([], figures, setting, Resdet())
    assert titles == [f"{figures[0].title}, with 1/8 of the training lengths"]


def test_the_scale_option(capsys):
    run_words(["reproduce", "table6", "--row", "resnet20", "--scale", "0.125", "--dry-run"])
    out = capsys.readouterr().out
    assert "train.length=8000" in out and "runs/reproduce_scale_1_8/cifar10_resnet20" in out


@pytest.mark.parametrize("text", ["3/2", "0", "-1/8", "x", "1/0", "nan"])
def test_invalid_scales_are_rejected(text, capsys):
    with pytest.raises(SystemExit):
        run_words(["reproduce", "table6", f"--scale={text}", "--dry-run"])
    assert f"{text} is" in capsys.readouterr().err
