"""`resdet export`: writes a checkpoint as an ONNX, OpenVINO or torch.export file, verified against the model."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from resdet import hub
from resdet.errors import ConfigError
from resdet.export import onnx, onnx_model, openvino, openvino_model, verify
from resdet.export.calibration import CalibrationData
from resdet.export.exporters import Agreement, Sides, exporters, graph_of
from resdet.export.form import DEFAULT, Form
from resdet.export.model import Exported
from resdet.export.onnx import to_onnx
from resdet.export.openvino import from_onnx
from resdet.export.program import to_program
from resdet.export.quantize import has_vnni, quantize
from resdet.files.atomic import check_file, check_not_input, write_json
from resdet.images import photographs
from resdet.images.decode import as_image
from resdet.progress import Activity


@dataclass(frozen=True)
class Target:
    """A format of `--to`."""

    suffix: str
    write: Callable[..., dict[str, Any]]
    require_packages: Callable[[], None] = lambda: None
    int8: bool = False  # whether it can be quantized
    second: str | None = None  # suffix of a second file that belongs to the first

    def files(self, path: Path) -> list[Path]:
        """Returns the files that `write` creates."""
        if self.second is None:
            return [path]
        if path.suffix != self.suffix:
            first, second = self.suffix, self.second
            raise ConfigError(
                f"--out is {path}: give a name that ends in {first}; the {second} file is written next to it."
            )
        return [path, path.with_suffix(self.second)]


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
    """Writes the file, verified on `image` or a generated photograph; with `int8` also a quantized file.

    `json_path`: output file for the agreement, the latencies and the accuracy loss of int8.
    """
    target = TARGETS[to]
    target.require_packages()
    path = Path(out) if out else default_path(Path(weights), target.suffix)
    files = target.files(path)
    calibration = open_calibration(target, int8, calibrate, overrides)
    if calibration:
        files += target.files(quantized_path(path, target.suffix))
    for file in files:
        check_file(file)
    sample = as_image(photograph() if image is None else image)
    sample.decode()  # refuses a damaged image before the export, which takes long
    model = hub.load(weights)
    if model.exported:
        raise ConfigError(f"{weights} is already an exported file: give the checkpoint that it was exported from.")
    for file in files:
        check_not_input(file, weights)
    if calibration:
        calibration.check(model)
    height, width = exporters[model.task].shape(model, form)
    print(f"input: images of {height}x{width} pixels (height x width)")
    with Activity(f"exporting {weights}"):
        write_json(json_path, target.write(model, path, form, sample, calibration))


def quantized_path(path: Path, suffix: str) -> Path:
    return path.with_suffix(f".int8{suffix}")


def open_calibration(
    target: Target, int8: bool, calibrate: str | None, overrides: Sequence[str]
) -> CalibrationData | None:
    if int8 != bool(calibrate):
        raise ConfigError(
            "--int8 and --calibrate need each other: give both, with a folder of images or a config to calibrate on."
        )
    if int8 and not target.int8:
        raise ConfigError("--int8 only works for ONNX and OpenVINO files: give --to onnx or --to openvino.")
    if overrides and (calibrate is None or Path(calibrate).is_dir()):
        raise ConfigError(
            f"{overrides[0]} overrides the config of --calibrate, but --calibrate names no config: leave it out; the "
            "settings of the model are in its checkpoint."
        )
    return CalibrationData(calibrate, overrides) if calibrate else None


def default_path(weights: Path, ending: str) -> Path:
    """Returns the checkpoint's path with another suffix; a published model's name, in the current folder."""
    return weights.with_suffix(ending) if weights.is_file() else Path(f"{weights.name}{ending}")


def parse_shape(text: str | None) -> tuple[int, int] | None:
    """Parses "800x1344" to (800, 1344)."""
    if text is None:
        return None
    sides = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if not sides:
        raise ConfigError(f"--shape is {text!r}: give height and width, as 800x1344.")
    return int(sides[1]), int(sides[2])


def photograph() -> np.ndarray:
    """Generates a photograph, uint8 RGB [H, W, 3]."""
    return photographs.photograph(np.random.default_rng(0))


def write_onnx(model: Any, path: Path, form: Form, image: Any, calibration: CalibrationData | None) -> dict[str, Any]:
    report: dict[str, Any] = {}
    to_onnx(model, path, form, lambda file: report.update(check(model, onnx_model.load(file), form, image)))
    report |= written(path)
    if calibration:
        whole, small = onnx_model.load(path), quantized_path(path, ".onnx")
        quantize(path, small, map(whole.feed, calibration.images()))
        report["int8"] = cost_of_int8(whole, onnx_model.load(small), calibration, image) | written(small)
    return report


def write_openvino(
    model: Any, path: Path, form: Form, image: Any, calibration: CalibrationData | None
) -> dict[str, Any]:
    """Exports to temporary ONNX files, and converts them."""
    report: dict[str, Any] = {}
    load = partial(openvino_model.load, precision="f32")
    with TemporaryDirectory() as folder:
        source, quantized = Path(folder) / "model.onnx", Path(folder) / "int8.onnx"
        to_onnx(model, source, form)
        from_onnx(source, path, lambda file: report.update(check(model, load(file), form, image)))
        report |= written(path, path.with_suffix(".bin"))
        whole, default = load(path), openvino_model.load(path)
        if default.runtime.precision != "f32":
            report[default.runtime.precision] = cost_of_precision(whole, default, image)
        if calibration:
            small = quantized_path(path, ".xml")
            quantize(source, quantized, map(whole.feed, calibration.images()))
            from_onnx(quantized, small)
            costs = cost_of_int8(whole, load(small), calibration, image)
            report["int8"] = costs | written(small, small.with_suffix(".bin"))
    return report


@torch.inference_mode()
def check(model: Any, exported: Exported, form: Form, image: Any) -> dict[str, Any]:
    images = [image] * form.example_batch
    return conclude(exported.runtime.name, *exporters[model.task].compare(model, exported, images))


def write_program(model: Any, path: Path, form: Form, image: Any, calibration: None) -> dict[str, Any]:
    images, report = [image] * form.example_batch, dict[str, Any]()

    def check(temporary: Path) -> None:
        with temporary.open("rb") as file:
            report.update(check_program(model, torch.export.load(file).module(), form, images))

    to_program(model, path, form, check)
    return report | written(path)


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
    """Prints and returns the milliseconds of each side."""
    milliseconds = verify.latencies(sides)
    print("latency: " + ", ".join(f"{name} {value:.0f} ms" for name, value in milliseconds.items()))
    return milliseconds


def written(path: Path, *others: Path) -> dict[str, Any]:
    """Prints and returns the path and size of a file, including the files that belong to it."""
    size = sum(file.stat().st_size for file in (path, *others))
    print(f"written: {' and '.join(map(str, (path, *others)))} ({size / 1e6:.1f} MB)")
    return {"file": str(path), "bytes": size}


def cost_of_precision(whole: Exported, default: Exported, image: Any) -> dict[str, Any]:
    """Returns the latency and the difference of OpenVINO's default precision on this CPU."""
    precision = default.runtime.precision
    report: dict[str, Any] = {"latency_ms": latencies(predictions({"f32": whole, precision: default}, image))}
    report["difference"] = exporters[whole.task].difference(whole, default, image)
    print(f"{precision}, the default of OpenVINO on this CPU, against f32 on one image: {report['difference']}")
    return report


def cost_of_int8(whole: Exported, small: Exported, calibration: CalibrationData, image: Any) -> dict[str, Any]:
    """Returns the latency of int8, and its metrics or its difference on an image."""
    report: dict[str, Any] = {"latency_ms": latencies(predictions({"float32": whole, "int8": small}, image))}
    if calibration.experiment is None:
        report["difference"] = exporters[whole.task].difference(whole, small, image)
        print(f"int8 against float32 on one image: {report['difference']}")
    else:
        metrics = [exporters[whole.task].metrics(model, calibration.experiment) for model in (whole, small)]
        report["metrics"] = dict(zip(("float32", "int8"), metrics))
        print(verify.cost_table(*metrics))
    if not has_vnni():
        print("This CPU has no VNNI: sums may saturate, which costs accuracy; evaluate on the CPU that will run it.")
    return report


def predictions(models: dict[str, Exported], image: Any) -> Sides:
    return {name: partial(model.predict, [image]) for name, model in models.items()}


TARGETS = {
    "onnx": Target(".onnx", write_onnx, onnx.require_packages, int8=True),
    "openvino": Target(".xml", write_openvino, openvino.require_packages, int8=True, second=".bin"),
    "torch-export": Target(".pt2", write_program),
}
