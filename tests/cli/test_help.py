"""Tests the help: all commands on one screen, each with an example that the parser accepts."""

import pytest

from resdet.cli import build_parser, main, parse
from resdet.cli.help import GROUPS

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
