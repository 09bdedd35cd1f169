"""Damaged checkpoints (.pth zips, older pickles, safetensors, ONNX), read by every reader and used to predict."""

import copy
import io
import json
import pickle
import pickletools
import random
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from fuzz.cases import Broken, Case, Trial
from fuzz.damage import Raw, damage_bytes, mutate_tree, mutations, odd_value, places, to_json
from fuzz.pickles import edit_pickle, edit_zip, trap
from fuzz.undamaged import (
    copied,
    detector,
    experiment,
    foreign,
    graphs,
    last,
    legacy_bytes,
    own,
    safetensors_parts,
    torch_bytes,
)

import resdet
from resdet.commands.convert import convert
from resdet.commands.train import train
from resdet.hub import build_for
from resdet.weights import load_weights, save_weights

ABOUT = ("experiment", "classes", "category_ids", "normalize", "trainer")
PICTURE = np.random.default_rng(0).integers(0, 256, (40, 36, 3), dtype=np.uint8)


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
    layout = rng.choice(save_weights.LAYOUTS)
    return Case({f"file.{ending}": data}, {"reader": reader, "file": f"file.{ending}", "layout": layout})


def bases() -> None:
    """Builds and caches the undamaged models, so that no case is charged for them."""
    last(), foreign(), graphs()


def content(rng: random.Random) -> Any:
    """Returns the content of a checkpoint before it is damaged."""
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
    return {"model": dict(state), **copied(save_weights.description(detector()))}


def odd_content(rng: random.Random, like: Any = None) -> Any:
    """Returns an odd value, also of the kinds of `odd_tensors`."""
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
        if not isinstance(tree, (dict, list)):
            return tree
        (change,) = rng.choices([odd_about, odd_tensor, odd_key, wrapped, changed], [55, 12, 5, 5, 23])
        tree = change(rng, tree)
    return tree


def odd_about(rng: random.Random, tree: Any) -> Any:
    """Damages the metadata of the checkpoint."""
    attached = getattr(tree, "_metadata", None)
    holder = attached["resdet"] if attached else tree
    told = [key for key in ABOUT if isinstance(holder, dict) and key in holder]
    if not told:
        return changed(rng, tree)
    key = rng.choice(told)
    inner = isinstance(holder[key], (dict, list)) and rng.random() < 0.9
    holder[key] = mutate_tree(rng, holder[key], odd_content) if inner else odd_content(rng)
    return tree


def odd_tensor(rng: random.Random, tree: Any) -> Any:
    tensors = [(node, key) for node, key in places(tree) if isinstance(node[key], torch.Tensor)]
    if tensors:
        node, key = rng.choice(tensors)
        node[key] = rng.choice(odd_tensors(node[key]))
    return tree


def odd_key(rng: random.Random, tree: Any) -> Any:
    if isinstance(tree, dict) and tree:
        keys = [0, 1.5, None, True, (), ("a",), b"a", float("nan"), torch.ones(1)]
        tree[rng.choice(keys)] = next(iter(tree.values()))
    return tree


def wrapped(rng: random.Random, tree: Any) -> Any:
    shapes = [
        {"model": tree},
        {"state_dict": {"model": tree}},
        [tree],
        {"model": [tree]},
        {"model": tree, "blobs": tree},
    ]
    return rng.choice(shapes)


def changed(rng: random.Random, tree: Any) -> Any:
    return mutate_tree(rng, tree, odd_content)


def safely(rng: random.Random, write: Any, tree: Any) -> bytes:
    """Writes the damaged tree, or an undamaged checkpoint if the damaged tree cannot be written."""
    try:
        return write(damaged(rng, tree))
    except Exception:  # the writer refuses some values
        return write(own())


def torch_file(rng: random.Random) -> bytes:
    draw = rng.random()
    if draw < 0.55:
        return safely(rng, torch_bytes, content(rng))
    return edit_zip(rng, torch_bytes(content(rng)))


def resumed(rng: random.Random) -> bytes:
    return safely(rng, torch_bytes, copied(last()))


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
    """Damages a safetensors file; the values of its metadata are JSON texts inside the JSON header."""
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
    report = trial.attempt(load_weights.load, model, folder / options["file"], new_classifier=True)
    if report is not None:
        print(report)
        refuse_unsound(model)


def into_another(folder: Path, options: dict[str, Any], trial: Trial) -> None:
    trial.attempt(convert, str(folder / options["file"]), options["layout"], str(folder / "out.pth"))


READERS = {"load": load, "init": init, "convert": into_another, "resume": resume}
