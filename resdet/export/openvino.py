"""Export to OpenVINO files with metadata, via ONNX."""

from collections.abc import Container
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree

from resdet.errors import FileError
from resdet.export.form import DEFAULT, Form
from resdet.export.onnx import require_packages as require_onnx
from resdet.export.onnx import to_onnx
from resdet.export.onnx_model import metadata_of
from resdet.export.openvino_model import DIGEST, PACKAGE, SECTION, core
from resdet.files.atomic import Check, accept, write_bytes
from resdet.files.download import digest
from resdet.optional import required

ROI_POOLS = ("ROIAlign", "ROIPooling")
LAYERS = ("Convolution", "ConvolutionBackpropData", "MatMul")


def to_openvino(model: Any, path: str | Path, form: Form = DEFAULT, check: Check = accept) -> None:
    """Writes an `.xml` file and a `.bin` file next to it, for `resdet.load`.

    `check` validates both in a temporary folder before they replace old ones. The inputs are the same as in the ONNX
    file, but `score` is required.
    """
    require_packages()
    with TemporaryDirectory() as folder:
        source = Path(folder) / "model.onnx"
        to_onnx(model, source, form)
        from_onnx(source, path, check)


def require_packages() -> None:
    required("openvino", PACKAGE, "Export to OpenVINO")
    require_onnx()


def from_onnx(source: Path, path: str | Path, check: Check = accept) -> None:
    """Converts an ONNX file of `to_onnx` or `quantize`."""
    path = Path(path)
    graph = convert(source)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "model.xml"
        weights = file.with_suffix(".bin")
        save(graph, file)
        graph.set_rt_info(digest(weights, DIGEST), [SECTION, DIGEST])
        save(graph, file)  # adds the digest; the weights stay the same
        keep_in_float32(file, coordinate_operations(graph))
        check(file)
        content = weights.read_bytes()
        # Replaces the .bin file only after the .xml file is on disk, so that a full disk leaves the old pair intact.
        write_bytes(path, file.read_bytes(), lambda _: write_bytes(path.with_suffix(".bin"), content))


def save(graph: Any, path: Path) -> None:
    import openvino

    try:
        openvino.save_model(graph, path, compress_to_fp16=False)
    except RuntimeError as error:
        raise FileError(f"{path} cannot be written by OpenVINO ({error}): free some space in this folder.") from None


def coordinate_operations(graph: Any) -> set[str]:
    """Returns the names of the operations that compute the boxes of RoIs from the outputs of layers.

    In bf16, OpenVINO's default on some CPUs, coordinates above 256 would be rounded to even numbers, and those above
    1024 to multiples of 8. The final boxes need no mark: OpenVINO runs the operations after the last layers in float32.
    """
    pools = [node for node in graph.get_ops() if node.get_type_name() in ROI_POOLS]
    pending, names = [pool.input(1).get_source_output().get_node() for pool in pools], set[str]()
    while pending:
        node = pending.pop()
        if node.get_type_name() not in LAYERS and node.friendly_name not in names:
            names.add(node.friendly_name)
            pending += [port.get_source_output().get_node() for port in node.inputs()]
    return names


def keep_in_float32(path: Path, names: Container[str]) -> None:
    """Marks operations in an `.xml` file; OpenVINO's Python package has no function for this."""
    tree = ElementTree.parse(path)
    for layer in tree.iterfind("layers/layer"):
        if layer.get("name") in names:
            info = layer.find("rt_info")
            if info is None:
                info = ElementTree.Element("rt_info")
                layer.insert(0 if layer.find("data") is None else 1, info)
            ElementTree.SubElement(info, "attribute", name="precise", version="0")
    tree.write(path, encoding="utf-8", xml_declaration=True)


def convert(source: Path) -> Any:
    """Converts an ONNX file to an OpenVINO model with its metadata."""
    import onnx

    file = onnx.load(source)
    metadata = metadata_of({entry.key: entry.value for entry in file.metadata_props})
    del file.metadata_props[:]  # otherwise, OpenVINO would store them too
    defaults = [value for value in file.graph.initializer if value.name == "score"]
    for value in defaults:
        file.graph.initializer.remove(value)  # OpenVINO treats inputs with a default value as constants
    graph = core().read_model(file.SerializeToString())
    for key, text in metadata.items():
        graph.set_rt_info(text, [SECTION, key])
    return graph
