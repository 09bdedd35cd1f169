"""Tests the help: all commands on one screen, each with a valid example."""

import pytest

from resdet.cli import build_parser, main, parse
from resdet.cli.help import ACTIONS, GROUPS

EXAMPLES = {words.split()[0]: words for examples in GROUPS.values() for words in examples}
COLUMNS, LINES = 80, 40


def printed(capsys, *words) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_the_help_fits_one_screen(capsys):
    lines = printed(capsys).splitlines()
    assert len(lines) <= LINES and max(map(len, lines[:-2])) <= COLUMNS
    assert all(any(line.startswith(f"  {words} ") for line in lines) for words in EXAMPLES.values())


def test_every_command_has_an_example():
    (commands,) = build_parser()._subparsers._group_actions
    assert {*commands.choices} == {*EXAMPLES}


@pytest.mark.parametrize("command", EXAMPLES)
def test_examples_are_parsed_and_end_the_help(command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse(EXAMPLES[command].split()).run
    text = printed(capsys, command)
    assert text.startswith(f"usage: resdet {command} ") and " ".join(text.split()).endswith(EXAMPLES[command])


def test_every_action_of_data_has_an_example():
    (commands,) = build_parser()._subparsers._group_actions
    (actions,) = commands.choices["data"]._subparsers._group_actions
    assert {*actions.choices} == {words.split()[0] for words in ACTIONS}


@pytest.mark.parametrize("words", ACTIONS)
def test_examples_of_actions_are_parsed_and_end_the_help(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse(["data", *words.split()]).run
    assert printed(capsys, "data", words.split()[0]).splitlines()[-1] == f"Example: resdet data {words}"


def test_the_example_is_on_a_separate_line_below_a_text(capsys):
    assert printed(capsys, "bench").splitlines()[-2:] == ["", "Example: resdet bench forward"]
