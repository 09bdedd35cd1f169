"""Tests the errors for unknown and for missing options."""

import pytest

from resdet.cli import main


@pytest.mark.parametrize(
    "words, remedy",
    [
        ("train --config custom --seed 3", "no option --seed: give train.seed=VALUE or data.seed=VALUE instead."),
        ("train --config custom --batch=8", "--batch: give train.batch=VALUE or eval.batch=VALUE instead."),
        ("train --config custom --batch-size=8", "--batch-size: give train.batch=VALUE instead."),
        ("train --config custom --epochs 3", "--epochs: give train.unit=epochs train.length=VALUE instead."),
        ("train --config custom --max-iter 9", "--max-iter: give train.unit=steps train.length=VALUE instead."),
        ("export a.pth --to onnx --half", "no option --half: `resdet export --help` lists the options."),
        ("train --config custom --weights a.pth", "no option --weights: did you mean --init?"),
        ("train --config custom --resmue", "no option --resmue: did you mean --resume?"),
        ("train --config custom --zzz", "no option --zzz: `resdet train --help` lists the options."),
        ("predict --weights a.pth --conf 0.3 a.jpg", "no option --conf: did you mean --score?"),
        ("predict --weights a.pth --source a.jpg", "no option --source: give the images without an option."),
        ("predict --weights a.pth --iou 0.3 a.jpg", "no option --iou: give eval.nms=VALUE instead."),
        ("predict --weights a.pth --seed 3 a.jpg", "no option --seed: `resdet predict --help` lists the options."),
        ("predict --weights a.pth --line-width 3 a.jpg", "--line-width: `resdet predict --help` lists the options."),
        ("export a.pth --to onnx --output b.onnx", "no option --output: did you mean --out?"),
        ("export a.pth --format onnx", "no option --format: did you mean --to?"),
        ("train --epochs=3", "--epochs: give train.unit=epochs train.length=VALUE instead."),
        ("data check photos --lr 3", "no option --lr: give optim.lr=VALUE instead."),
        ("data convert a b c --to coco", "'c' is not expected here: leave it out."),
        ("data convert a b --to coco -x", "'-x' is not expected here: leave it out."),
        ("export a.pth", "the following arguments are required: --to; for example: resdet export best.pth --to onnx"),
        ("data merge", "SRC, DST; for example: resdet data merge PHOTOS OTHERS NEW"),
    ],
)
def test_unknown_and_missing_options_suggest_alternatives(words, remedy, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    error = capsys.readouterr().err
    assert ended.value.code == 2 and error.endswith(f"{remedy}\n")
    assert error.startswith(f"usage: resdet {' '.join(words.split()[: 1 + words.startswith('data')])} ")
