"""Tests shell completion: candidates at each position of a command line, and the scripts in real shells."""

import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from resdet import config
from resdet.backbones import names
from resdet.cli import build_parser, main
from resdet.cli.candidates import candidates
from resdet.cli.help import GROUPS

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def after(*words) -> list[str]:
    return candidates(build_parser(), words)


def test_completion_of_commands_and_actions():
    assert {*after("")} == {example.split()[0] for examples in GROUPS.values() for example in examples}
    assert after("re") == ["report", "reproduce"] and after("nowhere") == []
    assert {"get", "make", "check", "convert"} <= {*after("data", "")}
    assert after("data", "make", "shape_") == ["shape_loc", "shape_scenes", "shape_vid"]
    assert after("data", "make", "shapes", "") == []  # a folder


@pytest.mark.parametrize(
    "command", ["train", "evaluate", "predict", "report", "export", "convert", "nets", "zoo", "bench"]
)
def test_completed_options_are_listed_in_the_help(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    told = capsys.readouterr().out
    offered = [word for word in after(command, "--") if word != "--import"]
    assert "--help" in offered and all(word in told for word in offered)


def test_completion_of_option_values():
    assert after("export", "net.pth", "--to", "o") == ["onnx", "openvino"]
    assert after("export", "net.pth", "--to=o") == ["--to=onnx", "--to=openvino"]
    assert after("predict", "a.jpg", "--mode", "") == ["exact", "fast"]
    assert after("zoo", "--task", "d") == ["detection"]
    assert after("train", "--resume", "--config", "custo") == ["custom"]  # --resume takes no value
    assert after("export", "--dynamic-batch", "net.pth", "--to", "o") == ["onnx", "openvino"]
    assert "custom" not in after("train", "--resume", "custo")


def test_completion_of_configs(folder):
    (folder / "mine.yaml").touch()
    assert {*after("train", "--config", "")} == {*config.shipped(), "mine.yaml"}
    assert after("config", "--config", "shapes_resnet") == ["shapes_resnet20"]
    assert after("train", "--config", "runs/") == []  # a file


def test_completion_of_config_keys():
    tree = config.to_dict(config.load("shapes_resnet20"))
    words = ("train", "--config", "shapes_resnet20")
    assert "optim." in after(*words, "") and "optim." in after(*words, "op")
    assert {*after(*words, "optim.")} == {f"optim.{key}=" for key in tree["optim"]}
    assert after(*words, "optim.lr") == ["optim.lr="]
    assert after(*words, "optim.lr=") == [f"optim.lr={tree['optim']['lr']}"]
    assert after(*words, "optim.nesterov=") == ["optim.nesterov=false", "optim.nesterov=true"]
    assert after(*words, "optim.lr=0.1", "schedule.warmup") and after(*words, "nowhere.") == []
    assert "model.box." in after("train", "--config=coco_r50_fpn", "model.b")  # keys of the config's task
    assert after("train", "--config", "no_such_config", "optim.") == []


def test_completion_of_keys_to_explain():
    assert "optim" in after("config", "--explain", "opt")
    assert {"optim.lr", "optim.betas"} < {*after("config", "--explain", "optim.")}
    assert "model.rpn.anchors.sizes" in after("config", "--explain", "model.rpn.anchors.")


def test_published_models_are_completed_after_a_prefix():
    assert after("predict", "--weights", "") == []  # files
    assert "torchvision/maskrcnn_resnet50_fpn_v2" in after("predict", "--weights", "torchvision/mask")
    assert after("convert", "detectron2/Misc/mask") == ["detectron2/Misc/mask_rcnn_R_50_FPN_3x_gn"]


def test_completion_of_models_and_tables():
    assert after("nets", "resnet5") == ["resnet50"] and {*after("nets", "resnet50", "")} == {*names()}
    assert after("reproduce", "table1")[0] == "table1" and "figure6" in after("reproduce", "")


def test_completion_does_not_import_torch(folder):
    script = (
        "import sys; from resdet.cli import build_parser; from resdet.cli.candidates import candidates\n"
        "for words in (['tr'], ['train', '--config', 'c'], ['train', '--config', 'custom', 'optim.'], ['nets', ''],\n"
        "              ['reproduce', ''], ['predict', '--weights', 't']):\n"
        "    assert candidates(build_parser(), words), words\n"
        "print([name for name in ('torch', 'torchvision', 'cv2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], env=environment(folder), capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def environment(folder: Path) -> dict[str, str]:
    """Returns the environment with this checkout's `resdet` in the PATH."""
    (folder / "bin").mkdir(exist_ok=True)
    command = folder / "bin/resdet"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m resdet.cli "$@"\n')
    command.chmod(0o755)
    paths = os.pathsep.join((str(folder / "bin"), os.environ["PATH"]))
    return {**os.environ, "PATH": paths, "PYTHONPATH": str(REPOSITORY), "HOME": str(folder), "TERM": "dumb"}


LINES = {  # typed words -> candidates as inserted by the shell
    "resdet rep": ["report", "reproduce"],
    "resdet export net.pth --to o": ["onnx", "openvino"],
    "resdet data make shape_": ["shape_loc", "shape_scenes", "shape_vid"],
    "resdet train --config shapes_resnet20 optim.nes": ["optim.nesterov="],
}


def in_shell(shell: str, script: str, folder: Path) -> list[str]:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    words = [shell, *(["--norc"] if shell == "bash" else ["-f"] if shell == "zsh" else ["--no-config"]), "-c", script]
    done = subprocess.run(words, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=300)
    assert done.stderr == ""
    return sorted(done.stdout.split())


def bash(line: str) -> str:
    """Returns a script that calls the registered function as readline does, with the words split at its word breaks."""
    return (
        'eval "$(resdet completion bash)"; complete -p resdet >/dev/null || exit 1; compopt() { :; }\n'
        f"COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}; _resdet; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )


@pytest.mark.parametrize("line", LINES)
def test_completion_in_bash(line, folder):
    assert in_shell("bash", bash(line), folder) == LINES[line]


def test_bash_breaks_words_at_equals_signs(folder):
    """Checks that only the part after the equals sign is completed, which readline treats as a word break."""
    assert in_shell("bash", bash("resdet train --config shapes_resnet20 optim.nesterov="), folder) == ["false", "true"]
    assert in_shell("bash", bash("resdet export a.pth --to=to"), folder) == ["torch-export"]


def test_bash_with_the_tab_key(folder):
    """Presses the tab key in an interactive shell at a terminal; the completed words are executed."""
    typed = 'eval "$(resdet completion bash)"\nresdet comp\tzs\t\nexit\n'
    keyboard, terminal = pty.openpty()
    words = ["bash", "--norc", "--noprofile", "-i"]
    shell = subprocess.Popen(
        words, cwd=folder, env=environment(folder), stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    os.write(keyboard, typed.encode())
    output = shell.communicate(timeout=300)[0].decode()
    os.close(keyboard), os.close(terminal)
    assert "compdef _resdet resdet" in output  # the script for zsh


@pytest.mark.parametrize("line", LINES)
def test_completion_in_fish(line, folder):
    script = f"resdet completion fish | source; complete -C '{line}'"
    assert in_shell("fish", script, folder) == LINES[line]


@pytest.mark.parametrize("line", LINES)
def test_completion_in_zsh(line, folder):
    """Calls zsh's function with stand-ins for the two builtins that only work in its line editor."""
    words = " ".join(f'"{word}"' for word in line.split(" "))
    script = (
        "compdef() { :; }; _files() { echo FILES; }\n"
        "compadd() { while [[ $1 != -- ]]; do shift; done; shift; print -l -- $@; }\n"
        f'eval "$(resdet completion zsh)"; words=({words}); CURRENT=$#words; _resdet'
    )
    found = in_shell("zsh", script, folder)
    assert [word for word in found if word.startswith(line.split(" ")[-1])] == LINES[line]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_printed(shell, capsys, monkeypatch):
    monkeypatch.delenv("_RESDET_WORDS", raising=False)
    assert main(["completion", shell]) == 0
    assert f"resdet completion {shell}" in capsys.readouterr().out
