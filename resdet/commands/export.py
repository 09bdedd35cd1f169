"""`resdet export`: a checkpoint as an ONNX file or a program of torch.export, checked before it says done."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from resdet import hub
from resdet.errors import ConfigError
from resdet.export import onnx_model, verify
from resdet.export.calibration import Calibration
from resdet.export.exporters import example_of, exporters, graph_of
from resdet.export.form import DEFAULT, Form
from resdet.export.onnx import require_packages, to_onnx
from resdet.export.program import to_program
from resdet.export.quantize import has_vnni, quantize
from resdet.files.atomic import check_file
from resdet.images import photographs
from resdet.images.decode import as_image

ENDINGS = {"onnx": ".onnx", "torch-export": ".pt2"}


def export(
    weights: str,
    to: str,
    out: str | None = None,
    form: Form = DEFAULT,
    image: str | None = None,
    int8: bool = False,
    calibrate: str | None = None,
    overrides: Sequence[str] = (),
) -> None:
    """Writes the file, checked on `image` or a generated photograph; an int8 one beside it where that is wanted."""
    if to == "onnx":
        require_packages()
    path = Path(out) if out else beside(Path(weights), ENDINGS[to])
    check_file(path)
    calibration = open_calibration(to, int8, calibrate, overrides)
    shown = as_image(photograph() if image is None else image)
    model = hub.load(weights)
    if model.exported:
        raise ConfigError(f"{weights} is an exported file already: give the checkpoint that it was made of.")
    if calibration:
        calibration.check_fits(model)
    write = write_onnx if to == "onnx" else write_program
    write(model, path, form, shown)
    say_written(path)
    if calibration:
        write_int8(path, path.with_suffix(".int8.onnx"), calibration, shown)


def open_calibration(to: str, int8: bool, calibrate: str | None, overrides: Sequence[str]) -> Calibration | None:
    if int8 != bool(calibrate):
        raise ConfigError(
            "--int8 and --calibrate belong together: name a folder of images, or a config that has training images."
        )
    if int8 and to != "onnx":
        raise ConfigError("--int8 is for ONNX files: give --to onnx.")
    if overrides and (calibrate is None or Path(calibrate).is_dir()):
        raise ConfigError(
            f"{overrides[0]} is a setting for the config that --calibrate names, and none is named: leave it out; the "
            "model's own settings are in its checkpoint."
        )
    return Calibration(calibrate, overrides) if calibrate else None


def beside(weights: Path, ending: str) -> Path:
    """The checkpoint's name with another ending; in this folder where the weights have a name and no file."""
    return (weights if weights.is_file() else Path(weights.name)).with_suffix(ending)


def parse_shape(text: str | None) -> tuple[int, int] | None:
    """ "800x1344" as (800, 1344)."""
    if text is None:
        return None
    sides = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if not sides:
        raise ConfigError(f"--shape is {text!r}: give height and width, as 800x1344.")
    return int(sides[1]), int(sides[2])


def photograph() -> np.ndarray:
    """A generated one, uint8 RGB."""
    return photographs.photograph(np.random.default_rng(0))


def write_onnx(model: Any, path: Path, form: Form, image: Any) -> None:
    images = [image] * len(example_of(model, form)[0])
    to_onnx(model, path, form, lambda temporary: check_onnx(model, onnx_model.load(temporary), images))


@torch.inference_mode()
def check_onnx(model: Any, exported: onnx_model.Exported, images: Sequence) -> None:
    conclude("onnxruntime", *exporters[model.task].check_onnx(model, exported, images))


def write_program(model: Any, path: Path, form: Form, image: Any) -> None:
    images = [image] * len(example_of(model, form)[0])

    def check(temporary: Path) -> None:
        with temporary.open("rb") as file:
            check_program(model, torch.export.load(file).module(), form, images)

    to_program(model, path, form, check)


@torch.inference_mode()
def check_program(model: Any, program: Callable, form: Form, images: Sequence) -> None:
    inputs = exporters[model.task].inputs(model, form, images)
    graph = graph_of(model, form)
    sides = {"eager": lambda: graph(*inputs), "torch.export": lambda: program(*inputs)}
    conclude("torch.export", verify.compare_exactly(*(side() for side in sides.values())), sides)


def conclude(runtime: str, agreement: tuple[bool, str], sides: dict[str, Callable[[], object]]) -> None:
    agrees, note = agreement
    verify.require_agreement(agrees, note)
    print(f"{runtime} gives what the checkpoint gives: {note}")
    print(f"latency: {verify.latencies(sides)}")


def say_written(path: Path) -> None:
    print(f"written: {path} ({path.stat().st_size / 1e6:.1f} MB)")


def write_int8(whole_path: Path, path: Path, calibration: Calibration, image: Any) -> None:
    whole = onnx_model.load(whole_path)
    quantize(whole_path, path, map(whole.feed, calibration.images()))
    small = onnx_model.load(path)
    sides = {"float32": lambda: whole.predict([image]), "int8": lambda: small.predict([image])}
    print(f"latency: {verify.latencies(sides)}")
    if calibration.experiment is None:
        print(f"int8 beside float32 on one image: {exporters[whole.task].difference(whole, small, image)}")
    else:
        metrics = [exporters[whole.task].metrics(model, calibration.experiment) for model in (whole, small)]
        print(verify.cost_table(*metrics))
    if not has_vnni():
        print("This processor has no VNNI: int8 is slower on it, and sums may saturate; judge it where it will run.")
    say_written(path)
