"""`resdet export`: writes a checkpoint as an ONNX file or torch.export program, verified against the model."""

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
from resdet.export.exporters import Agreement, Sides, example_of, exporters, graph_of
from resdet.export.form import DEFAULT, Form
from resdet.export.onnx import require_packages, to_onnx
from resdet.export.program import to_program
from resdet.export.quantize import has_vnni, quantize
from resdet.files.atomic import check_file, write_json
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
    json_path: str | None = None,
) -> None:
    """Writes the file, verified on `image` or a generated photograph; with `int8` also a quantized ONNX file.

    `json_path`: output file of the agreement, the latencies and the cost of int8.
    """
    if to == "onnx":
        require_packages()
    path = Path(out) if out else default_path(Path(weights), ENDINGS[to])
    check_file(path)
    calibration = open_calibration(to, int8, calibrate, overrides)
    sample = as_image(photograph() if image is None else image)
    model = hub.load(weights)
    if model.exported:
        raise ConfigError(f"{weights} is already an exported file: give the checkpoint that it was exported from.")
    if calibration:
        calibration.check_fits(model)
    write = write_onnx if to == "onnx" else write_program
    report = write(model, path, form, sample) | written(path)
    if calibration:
        report["int8"] = write_int8(path, path.with_suffix(".int8.onnx"), calibration, sample)
    write_json(json_path, report)


def open_calibration(to: str, int8: bool, calibrate: str | None, overrides: Sequence[str]) -> Calibration | None:
    if int8 != bool(calibrate):
        raise ConfigError(
            "--int8 and --calibrate need each other: give both, with a folder of images or a config to calibrate on."
        )
    if int8 and to != "onnx":
        raise ConfigError("--int8 only works for ONNX files: give --to onnx.")
    if overrides and (calibrate is None or Path(calibrate).is_dir()):
        raise ConfigError(
            f"{overrides[0]} overrides the config of --calibrate, but --calibrate names no config: leave it out; the "
            "settings of the model are in its checkpoint."
        )
    return Calibration(calibrate, overrides) if calibrate else None


def default_path(weights: Path, ending: str) -> Path:
    """The checkpoint's path with another suffix; in the current folder for a published model."""
    return (weights if weights.is_file() else Path(weights.name)).with_suffix(ending)


def parse_shape(text: str | None) -> tuple[int, int] | None:
    """Parses "800x1344" to (800, 1344)."""
    if text is None:
        return None
    sides = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if not sides:
        raise ConfigError(f"--shape is {text!r}: give height and width, as 800x1344.")
    return int(sides[1]), int(sides[2])


def photograph() -> np.ndarray:
    """A generated photograph, uint8 RGB [H, W, 3]."""
    return photographs.photograph(np.random.default_rng(0))


def write_onnx(model: Any, path: Path, form: Form, image: Any) -> dict[str, Any]:
    images, report = [image] * len(example_of(model, form)[0]), {}
    to_onnx(model, path, form, lambda file: report.update(check_onnx(model, onnx_model.load(file), images)))
    return report


@torch.inference_mode()
def check_onnx(model: Any, exported: onnx_model.Exported, images: Sequence) -> dict[str, Any]:
    return conclude("onnxruntime", *exporters[model.task].check_onnx(model, exported, images))


def write_program(model: Any, path: Path, form: Form, image: Any) -> dict[str, Any]:
    images, report = [image] * len(example_of(model, form)[0]), {}

    def check(temporary: Path) -> None:
        with temporary.open("rb") as file:
            report.update(check_program(model, torch.export.load(file).module(), form, images))

    to_program(model, path, form, check)
    return report


@torch.inference_mode()
def check_program(model: Any, program: Callable, form: Form, images: Sequence) -> dict[str, Any]:
    inputs = exporters[model.task].inputs(model, form, images)
    graph = graph_of(model, form)
    sides: Sides = {"eager": lambda: graph(*inputs), "torch.export": lambda: program(*inputs)}
    return conclude("torch.export", verify.compare_exactly(graph(*inputs), program(*inputs)), sides)


def conclude(runtime: str, agreement: Agreement, sides: Sides) -> dict[str, Any]:
    agrees, note = agreement
    verify.require_agreement(agrees, note)
    print(f"{runtime} agrees with the checkpoint: {note}")
    return {"agreement": note, "latency_ms": latencies(sides)}


def latencies(sides: Sides) -> dict[str, float]:
    """Milliseconds of each side, also printed."""
    milliseconds = verify.latencies(sides)
    print("latency: " + ", ".join(f"{name} {value:.0f} ms" for name, value in milliseconds.items()))
    return milliseconds


def written(path: Path) -> dict[str, Any]:
    """Path and size of a file, also printed."""
    size = path.stat().st_size
    print(f"written: {path} ({size / 1e6:.1f} MB)")
    return {"file": str(path), "bytes": size}


def write_int8(whole_path: Path, path: Path, calibration: Calibration, image: Any) -> dict[str, Any]:
    whole = onnx_model.load(whole_path)
    quantize(whole_path, path, map(whole.feed, calibration.images()))
    small = onnx_model.load(path)
    sides: Sides = {
        "float32": lambda: whole.predict([image]),
        "int8": lambda: small.predict([image]),
    }
    report: dict[str, Any] = {"latency_ms": latencies(sides)}
    if calibration.experiment is None:
        report["difference"] = exporters[whole.task].difference(whole, small, image)
        print(f"int8 against float32 on one image: {report['difference']}")
    else:
        metrics = [exporters[whole.task].metrics(model, calibration.experiment) for model in (whole, small)]
        report["metrics"] = dict(zip(("float32", "int8"), metrics))
        print(verify.cost_table(*metrics))
    if not has_vnni():
        print("This CPU has no VNNI: int8 is slower and sums may saturate; evaluate on the CPU that will run it.")
    return report | written(path)
