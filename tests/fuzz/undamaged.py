"""Small undamaged checkpoints of each library and file format, equal in every process."""

import io
import json
import pickle
import struct
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detection.heads import tiny
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save as safetensors_bytes

import resdet
from resdet import config
from resdet.classification.training import ClassificationTraining
from resdet.engine.distributed import World
from resdet.engine.log import Log
from resdet.engine.trainer import Trainer
from resdet.weights import save_weights

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
LIMIT = 32  # size to which tensors of other libraries are cut; only their names matter


@cache
def experiment() -> Any:
    return config.load("shapes_resnet20.yaml", *TINY)


@cache
def task() -> ClassificationTraining:
    return ClassificationTraining(experiment(), World(0, 1, torch.device("cpu")), Log(None))


@cache
def last() -> dict[str, Any]:
    """Returns the state of a run after its first step, with momentum."""
    chosen = experiment()
    trainer = Trainer(task(), chosen.optim, chosen.schedule, chosen.train, task().world, Path("nowhere"))
    for parameter in task().model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    trainer.train_step.optimizer.step()
    trainer.step = 1
    return {"model": task().model.state_dict(), **save_weights.description(task().model), "trainer": trainer.state()}


def own() -> dict[str, Any]:
    return {key: value for key, value in last().items() if key != "trainer"}


def copied(tree: Any) -> Any:
    """Copies dicts and lists, but not the tensors in them."""
    if isinstance(tree, dict):
        return type(tree)((key, copied(value)) for key, value in tree.items())
    return [copied(value) for value in tree] if isinstance(tree, list) else tree


@cache
def foreign() -> dict[str, dict[str, torch.Tensor]]:
    """Returns state dicts with the names of other libraries and small tensors."""
    torch.manual_seed(0)
    classifier = resdet.build("imagenet_r18.yaml", "model.num_classes=10", "model.backbone.shortcut=B")
    found = {}
    for name, model, layout in (
        ("torchvision", classifier, "torchvision"),
        ("torchvision detector", tiny.make("fpn", True, "data=coco", *TORCHVISION), "torchvision"),
        ("detectron2 detector", detector(), "detectron2"),
        ("own detector", detector(), "safetensors"),
    ):
        found[name] = {key: small(tensor) for key, tensor in save_weights.state_in(model, layout).items()}
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
    """Returns small ONNX models: a linear layer on the mean color, and detectors with constant output."""
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
            "input": {"min_size": 64, "max_size": 96, "resize": "opencv", "divisor": 32},
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
    """Builds a model; arrays that are named as outputs are returned unchanged."""
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


def torch_bytes(tree: Any) -> bytes:
    file = io.BytesIO()
    torch.save(tree, file)
    return file.getvalue()


class LegacyPickler(pickle.Pickler):
    """The pickler of torch before its zip format, with numbered storages instead of addresses."""

    def __init__(self, file: io.BytesIO):
        super().__init__(file, 2)
        self.storages: dict[int, tuple[str, Any]] = {}

    def persistent_id(self, value: Any) -> Any:
        if not isinstance(value, torch.storage.TypedStorage):
            return None
        key, _ = self.storages.setdefault(value._cdata, (str(len(self.storages)), value))
        return "storage", getattr(torch, value._pickle_storage_type()), key, "cpu", value._size(), None


def legacy_bytes(tree: Any) -> bytes:
    """Writes the format of torch before its zip format: five pickles followed by the storages."""
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


def safetensors_parts(state: dict[str, torch.Tensor]) -> tuple[dict[str, Any], bytes]:
    """Returns the header as a tree and the bytes of the tensors."""
    data = safetensors_bytes(state)
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]
