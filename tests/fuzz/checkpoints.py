"""Checkpoints, .pth zips, older pickles, safetensors and ONNX, through all that reads them, then a prediction."""

import copy
import io
import json
import pickle
import pickletools
import random
import struct
import zipfile
from collections import OrderedDict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from heads import tiny
from safetensors.torch import save as safetensors_bytes

import resdet
from fuzz.cases import Broken, Case, Trial
from fuzz.damage import Raw, damage_bytes, mutate_tree, mutations, odd_value, to_json
from fuzz.pickles import edit_pickle, trap
from resdet import config
from resdet.commands.convert import convert
from resdet.commands.train import train
from resdet.engine.distributed import World
from resdet.engine.log import Log
from resdet.engine.trainer import Trainer
from resdet.models.building import build_for
from resdet.tasks.classification import ClassificationTask
from resdet.weights import loading, saving

TINY = [
    *(
        "model.backbone=cifar_resnet8",
        "data.train_images=16",
        "data.val_images=8",
        "train.batch=8",
        "train.precision=fp32",
    ),
    *("train.unit=steps", "train.length=2", "train.evaluate_every=2", "train.checkpoint_every=2", "train.log_every=1"),
    *("train.device=cpu", "schedule.warmup=0"),
]
TORCHVISION = ("model.box.aligned=false", "model.mask.aligned=false", "model.rpn.anchors.style=torchvision")
PICTURE = np.random.default_rng(0).integers(0, 256, (40, 36, 3), dtype=np.uint8)
LIMIT = 32  # of a side of the tensors of other libraries' nets, of which the names count


@cache
def experiment() -> Any:
    return config.load("shapes_resnet20.yaml", *TINY)


@cache
def task() -> ClassificationTask:
    return ClassificationTask(experiment(), World(0, 1, torch.device("cpu")), Log(None))


@cache
def last() -> dict[str, Any]:
    """A run's state after its first step, with momentum."""
    chosen = experiment()
    trainer = Trainer(task(), chosen.optim, chosen.schedule, chosen.train, task().world, Path("nowhere"))
    for parameter in task().model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    trainer.optimizer.step()
    trainer.step = 1
    return {"model": task().model.state_dict(), **saving.description(task().model), "trainer": trainer.state()}


def own() -> dict[str, Any]:
    return {key: value for key, value in last().items() if key != "trainer"}


@cache
def foreign() -> dict[str, dict[str, torch.Tensor]]:
    """State dicts of other libraries: their names, small tensors."""
    torch.manual_seed(0)
    classifier = resdet.build("imagenet_r18.yaml", "model.num_classes=10", "model.backbone.shortcut=B")
    found = {}
    for name, model, layout in (
        ("torchvision", classifier, "torchvision"),
        ("torchvision detector", tiny.make("fpn", True, "data=coco", *TORCHVISION), "torchvision"),
        ("detectron2 detector", detector(), "detectron2"),
        ("own detector", detector(), "safetensors"),
    ):
        found[name] = {key: small(tensor) for key, tensor in saving.state_in(model, layout).items()}
    found["caffe2"] = {name: torch.zeros(4, 3, 3, 3) for name in ("conv1_w", "res2_0_branch2a_w", "res2_0_branch1_w")}
    found["keras"] = {
        name: torch.zeros(3, 3, 3, 4) for name in ("res2a_branch2a/kernel", "conv1/kernel", "bn_conv1/gamma")
    }
    return found


def small(tensor: torch.Tensor) -> torch.Tensor:
    return tensor[tuple(slice(0, LIMIT) for _ in tensor.shape)].detach().clone()


@cache
def detector() -> torch.nn.Module:
    return tiny.make("fpn", True, "data=coco")


@cache
def graphs() -> dict[str, bytes]:
    """Exported models as small as can be: a layer on the mean colour, and detectors that always find the same."""
    mean = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("GlobalAveragePool", ["floats"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"]),
    ]
    layer = {"weight": np.ones((3, 10), np.float32), "bias": np.zeros(10, np.float32)}
    boxes = np.array([[2, 3, 20, 30], [5, 5, 60, 40]], np.float32)
    outside = {"boxes": boxes[None, :, None], "scores": np.full((1, 2, 3), 0.3, np.float32)}
    inside = {"boxes": boxes[None], "scores": np.full((1, 2), 0.9, np.float32), "labels": np.array([[0, 2]])}
    inside |= {"valid": np.ones((1, 2), bool), "masks": np.full((1, 2, 64, 96), 0.7, np.float32)}
    about = {
        "task": "classification",
        "shape": [32, 32],
        "batch": None,
        "size": 32,
        "short": 32,
        "classes": list(own()["classes"]),
    }
    detects = {
        **{
            "task": "detection",
            "shape": [64, 96],
            "batch": 1,
            "input": {"short": 64, "long": 96, "resize": "opencv", "divisor": 32},
        },
        **{"category_ids": [1, 2, 3], "score": 0.05, "classes": list(tiny.CLASSES), "masks": None},
    }
    suppression = {"candidates": 10, "iou": 0.5, "detections": 5}
    return {
        "classifier": onnx_model(mean, layer, ["logits"], about),
        "outside": onnx_model([], outside, list(outside), detects | {"nms": "outside", "suppression": suppression}),
        "inside": onnx_model([], inside, list(inside), detects | {"nms": "inside", "masks": "inside"}),
    }


def onnx_model(nodes: list, arrays: dict[str, np.ndarray], outputs: list[str], about: dict[str, Any]) -> bytes:
    """Arrays that are outputs come out as they are."""
    held = [numpy_helper.from_array(array, f"{name}0" if name in outputs else name) for name, array in arrays.items()]
    nodes = nodes + [helper.make_node("Identity", [f"{name}0"], [name]) for name in outputs if name in arrays]
    kinds = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in arrays.items()}
    inputs = [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 3, *about["shape"]])]
    if about["task"] == "detection":
        inputs.append(helper.make_tensor_value_info("sizes", TensorProto.FLOAT, ["batch", 2]))
        inputs += [helper.make_tensor_value_info("score", TensorProto.FLOAT, [])] * (about["nms"] == "inside")
    shown = [helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), None) for name in outputs]
    graph = helper.make_graph(nodes, "net", inputs, shown, held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    told = {"version": "0.1.0", "pixels": "RGB", "experiment": own()["experiment"]} | about
    helper.set_model_props(model, {f"resdet.{key}": json.dumps(value) for key, value in told.items()})
    return model.SerializeToString()


def make_case(rng: random.Random) -> Case:
    bases()
    form = rng.choice(
        ["torch"] * 4 + ["legacy", "pickle", "pickle", "safetensors", "safetensors", "onnx", "onnx", "resume"]
    )
    if form == "resume":
        return Case({"run/last.pth": resumed(rng)}, {"reader": "resume"})
    make = {
        "torch": torch_file,
        "legacy": legacy_file,
        "pickle": pickle_file,
        "safetensors": safetensors_file,
        "onnx": onnx_file,
    }
    data = make[form](rng)
    if rng.random() < 0.15:
        data = damage_bytes(rng, data, near=rng.choice([16, 256, None]))
    ending = {"onnx": "onnx", "safetensors": "safetensors", "pickle": "pkl"}.get(form, "pth")
    reader = "load" if form == "onnx" else rng.choice(["load", "load", "load", "init", "convert"])
    layout = rng.choice(saving.LAYOUTS)
    return Case({f"file.{ending}": data}, {"reader": reader, "file": f"file.{ending}", "layout": layout})


def bases() -> None:
    """So that no case pays for them."""
    last(), foreign(), graphs()


def content(rng: random.Random) -> Any:
    """What a file holds, before it is damaged."""
    kind = rng.choices(
        ["own", "wrapped", "attached", "foreign", "detector", "whole detector"], [40, 10, 10, 20, 10, 3]
    )[0]
    if kind == "own":
        return copied(own())
    if kind == "wrapped":
        state = {f"module.{name}": tensor for name, tensor in own()["model"].items()}
        return {"state_dict": state, "arch": "resnet18", "epoch": 3, "optimizer": {"state": {0: torch.ones(2)}}}
    if kind == "attached":
        state = OrderedDict(own()["model"])
        state._metadata = {"resdet": copied({key: value for key, value in own().items() if key != "model"})}
        return state
    if kind == "foreign":
        return dict(foreign()[rng.choice(sorted(foreign()))])
    state = foreign()["own detector"] if kind == "detector" else detector().state_dict()
    return {"model": dict(state), **copied(saving.description(detector()))}


def copied(tree: Any) -> Any:
    """Tensors stay the same ones."""
    if isinstance(tree, dict):
        return type(tree)((key, copied(value)) for key, value in tree.items())
    return [copied(value) for value in tree] if isinstance(tree, list) else tree


def odd_content(rng: random.Random, like: Any = None) -> Any:
    """Also tensors, of every odd kind."""
    if isinstance(like, torch.Tensor) and rng.random() < 0.7 or rng.random() < 0.1:
        return rng.choice(odd_tensors(like if isinstance(like, torch.Tensor) else torch.ones(2, 3)))
    value = odd_value(rng, like)
    if isinstance(value, Raw):
        value = 1
        for _ in range(rng.choice([10, 100, 300])):
            value = [value] if rng.random() < 0.5 else {"a": value}
    return value


def odd_tensors(like: torch.Tensor) -> list[Any]:
    real = like.float()
    return [
        *(
            real * float("nan"),
            real + float("inf"),
            real.to(torch.complex64),
            real.half(),
            real.double(),
            real.bfloat16(),
        ),
        *(
            real.to(torch.int64),
            real > 0,
            real[None],
            real.flatten(),
            real.flatten()[:1],
            real.flatten()[:0],
            torch.tensor(1.0),
        ),
        *(
            torch.zeros(1).expand(10**6),
            torch.zeros(1).expand(2**33),
            torch.empty(10**9, device="meta"),
            real.to_sparse(),
        ),
        *(
            torch.quantize_per_tensor(real, 0.1, 0, torch.quint8),
            real.t() if real.dim() == 2 else real,
            torch.zeros(0, 3),
        ),
        *(
            real.to(torch.float8_e4m3fn),
            torch.nn.Parameter(real),
            real.numpy().copy(),
            np.float32(1),
            np.array(["a"]),
            np.array(1),
        ),
        *(
            real * 1e38,
            real * 1e-45,
            torch.zeros([1] * 60),
            real.to(torch.uint8),
            np.array([1 + 2j]),
            torch.Size([1, 2]),
        ),
    ]


def damaged(rng: random.Random, tree: Any) -> Any:
    for _ in range(mutations(rng)):
        draw = rng.random()
        holder = (
            tree._metadata["resdet"]
            if isinstance(tree, OrderedDict) and hasattr(tree, "_metadata") and draw < 0.7
            else tree
        )
        about = [
            key
            for key in ("experiment", "classes", "category_ids", "normalise", "trainer")
            if isinstance(holder, dict) and key in holder
        ]
        if about and draw < 0.6:
            key = rng.choice(about)
            holder[key] = (
                mutate_tree(rng, holder[key], odd_content)
                if isinstance(holder[key], (dict, list)) and rng.random() < 0.9
                else odd_content(rng)
            )
        elif draw < 0.65 and isinstance(tree, dict) and tree:
            tree[rng.choice([0, 1.5, None, True, (), ("a",), b"a", float("nan"), torch.ones(1)])] = next(
                iter(tree.values())
            )
        elif draw < 0.7:
            tree = rng.choice(
                [
                    {"model": tree},
                    {"state_dict": {"model": tree}},
                    [tree],
                    {"model": [tree]},
                    {"model": tree, "state_dict": tree},
                ]
            )
        else:
            tree = mutate_tree(rng, tree, odd_content) if isinstance(tree, (dict, list)) else tree
    return tree


def torch_bytes(tree: Any) -> bytes:
    file = io.BytesIO()
    torch.save(tree, file)
    return file.getvalue()


class LegacyPickler(pickle.Pickler):
    """torch's before its zips, which names storages by their addresses; here they are numbered."""

    def __init__(self, file: io.BytesIO):
        super().__init__(file, 2)
        self.storages: dict[int, tuple[str, Any]] = {}

    def persistent_id(self, value: Any) -> Any:
        if not isinstance(value, torch.storage.TypedStorage):
            return None
        key, _ = self.storages.setdefault(value._cdata, (str(len(self.storages)), value))
        return "storage", getattr(torch, value._pickle_storage_type()), key, "cpu", value._size(), None


def legacy_bytes(tree: Any) -> bytes:
    """Five pickles one after another, then the storages."""
    file = io.BytesIO()
    about = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    for part in (0x1950A86A20F9469CFC6C, 1001, about):
        pickle.dump(part, file, 2)
    pickler = LegacyPickler(file)
    pickler.dump(tree)
    pickle.dump([key for key, _ in pickler.storages.values()], file, 2)
    for _, storage in pickler.storages.values():
        values = torch.empty(0, dtype=torch.uint8).set_(storage._untyped_storage)
        file.write(struct.pack("<q", storage._size()) + values.numpy().tobytes())
    return file.getvalue()


def safely(rng: random.Random, write: Any, tree: Any) -> bytes:
    """What cannot be written is written undamaged."""
    try:
        return write(damaged(rng, tree))
    except Exception:  # writers refuse some of what readers must stand
        return write(own())


def torch_file(rng: random.Random) -> bytes:
    draw = rng.random()
    if draw < 0.55:
        return safely(rng, torch_bytes, content(rng))
    return edit_zip(rng, torch_bytes(content(rng)))


def resumed(rng: random.Random) -> bytes:
    return safely(rng, torch_bytes, copied(last()))


def edit_zip(rng: random.Random, data: bytes) -> bytes:
    """Entries dropped, doubled, renamed, cut, squeezed; and the pickle among them changed by opcodes."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [(part.filename, archive.read(part)) for part in archive.infolist()]
    squeezed = zipfile.ZIP_STORED
    for _ in range(rng.choice([1, 1, 2])):
        at, kind = rng.randrange(len(entries)), rng.randrange(9)
        name, held = entries[at]
        if kind < 4:
            at = next((n for n, (name, _) in enumerate(entries) if name.endswith("data.pkl")), at)
            name, held = entries[at]
            entries[at] = (name, trap(rng) if rng.random() < 0.3 else edit_pickle(rng, held))
        elif kind == 4:
            del entries[at]
        elif kind == 5:
            entries.append((name, rng.choice(entries)[1]))
        elif kind == 6:
            other = rng.choice(
                [
                    "",
                    "../x",
                    "/x",
                    "archive/data/0",
                    "data.pkl",
                    "x" * 5000,
                    name.upper(),
                    f"a/{name}",
                    "archive/.format_version",
                ]
            )
            entries[at] = (other, held)
        elif kind == 7:
            entries[at] = (
                name,
                held[: rng.randrange(len(held) + 1)] if rng.random() < 0.5 else held + bytes(rng.choice([1, 10**6])),
            )
        else:
            squeezed = zipfile.ZIP_DEFLATED
            entries[at] = (name, bytes(rng.choice([10**4, 10**7])))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", squeezed) as archive:
        for name, held in entries:
            archive.writestr(zipfile.ZipInfo(name or "x"), held, squeezed)
    return file.getvalue()


def legacy_file(rng: random.Random) -> bytes:
    if rng.random() < 0.4:
        return safely(rng, legacy_bytes, content(rng))
    data = legacy_bytes(content(rng))
    stream, ends = io.BytesIO(data), [0]
    for _ in range(5):
        for _ in pickletools.genops(stream):
            pass
        ends.append(stream.tell())
    start, end = rng.choice(list(zip(ends, ends[1:])))
    changed = trap(rng) if rng.random() < 0.2 else edit_pickle(rng, data[start:end])
    return data[:start] + changed + data[end:]


def pickle_file(rng: random.Random) -> bytes:
    if rng.random() < 0.4:
        return trap(rng)
    arrays = lambda tree: pickle.dumps(tree, protocol=rng.choice([2, 2, 3, 4, 5]))
    tree = content(rng)
    tree = numpy_of(dict(tree) if isinstance(tree, OrderedDict) else tree)
    if rng.random() < 0.5:
        return safely(rng, lambda tree: arrays(numpy_of(tree)), tree)
    return edit_pickle(rng, arrays(tree))


def numpy_of(tree: Any) -> Any:
    if isinstance(tree, torch.Tensor):
        return tree.detach().numpy() if tree.dtype != torch.bfloat16 and not tree.is_sparse and not tree.is_meta else 0
    if isinstance(tree, dict):
        return {key: numpy_of(value) for key, value in tree.items()}
    return [numpy_of(value) for value in tree] if isinstance(tree, list) else tree


def safetensors_file(rng: random.Random) -> bytes:
    """The metadata are JSON within the JSON of the header."""
    about: Any = copied({key: value for key, value in own().items() if key != "model"})
    state = {name: tensor.contiguous() for name, tensor in own()["model"].items()}
    if rng.random() < 0.6:
        for _ in range(mutations(rng)):
            about = mutate_tree(rng, about, odd_value)
    texts = (
        {str(key): to_json(value) for key, value in about.items()}
        if isinstance(about, dict)
        else {"experiment": to_json(about)}
    )
    if rng.random() < 0.1:
        texts[rng.choice(sorted(texts) or ["experiment"])] = rng.choice(
            ["", "{", "null", "[]", "NaN", "3", '"a"', "[" * 100_000]
        )
    header, data = safetensors_parts(state)
    header["__metadata__"] = texts
    if rng.random() < 0.4:
        for _ in range(mutations(rng)):
            header = mutate_tree(rng, header, odd_value)
    written = to_json(header).encode()
    length = rng.choice([0, 2**32, 2**63, len(written) - 1, len(written) + 1]) if rng.random() < 0.05 else len(written)
    return struct.pack("<Q", length) + written + data


def safetensors_parts(state: dict[str, torch.Tensor]) -> tuple[dict[str, Any], bytes]:
    """The header as a tree, and the tensors' bytes."""
    data = safetensors_bytes(state)
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def onnx_file(rng: random.Random) -> bytes:
    model = onnx.load_from_string(graphs()[rng.choice(sorted(graphs()))])
    for _ in range(mutations(rng)):
        kind = rng.randrange(7)
        if kind < 4 and len(model.metadata_props):
            entry = rng.choice(model.metadata_props)
            value = mutate_tree(rng, {"value": json.loads(entry.value)} if is_json(entry.value) else {"value": 1})
            value = value.get("value") if isinstance(value, dict) else value
            entry.value = (
                rng.choice([to_json(value)] * 9 + ["", "{", "NaN", "[" * 100_000]).encode("utf-8", "replace").decode()
            )
            if rng.random() < 0.1:
                entry.key = rng.choice(["resdet.task", "resdet.", "resdet.x", "a"])
            if rng.random() < 0.2:
                model.metadata_props.remove(entry)
        elif kind == 4:
            tensor = rng.choice(model.graph.initializer)
            tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice([0, -1, 1, 2**31, 2**62])
        elif kind == 5:
            node = rng.choice(model.graph.node)
            node.op_type = rng.choice(["Relu", "Nothing", "", "Loop", "NonMaxSuppression"])
        else:
            value = rng.choice([*model.graph.input, *model.graph.output])
            value.name = rng.choice(["images", "boxes", "", "sizes", "logits"])
    return model.SerializeToString()


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def run_case(folder: Path, options: dict[str, Any], trial: Trial) -> None:
    READERS[options["reader"]](folder, options, trial)


def resume(folder: Path, options: dict[str, Any], trial: Trial) -> None:
    trial.attempt(train, copy.deepcopy(experiment()), str(folder / "run"), resume=True)


def load(folder: Path, options: dict[str, Any], trial: Trial) -> None:
    model = trial.attempt(resdet.load, folder / options["file"])
    if model is None:
        return
    if isinstance(model, torch.nn.Module):
        refuse_unsound(model)
    found = trial.attempt(model.predict, [PICTURE])
    if found is not None:
        print(*(str(result) for result in found))


def refuse_unsound(model: torch.nn.Module) -> None:
    for name, tensor in model.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise Broken(f"{name} is not finite, and was loaded")


def init(folder: Path, options: dict[str, Any], trial: Trial) -> None:
    chosen = experiment()
    model = build_for(chosen, [f"class {number}" for number in range(10)])
    report = trial.attempt(loading.load, model, folder / options["file"], new_classifier=True)
    if report is not None:
        print(report)
        refuse_unsound(model)


def into_another(folder: Path, options: dict[str, Any], trial: Trial) -> None:
    trial.attempt(convert, str(folder / options["file"]), options["layout"], str(folder / "out.pth"))


READERS = {"load": load, "init": init, "convert": into_another, "resume": resume}
