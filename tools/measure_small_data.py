"""Compares resdet's recipe for small data with that of torchvision's references: box AP after equal CPU time.

    python tools/measure_small_data.py --data FOLDER --weights FILE [--steps 80] [--seeds 0 1 2] [--json FILE]
                                       [model.backbone.stride_in=1x1 ...]

Both sides train Faster R-CNN R50-FPN from the same ImageNet weights on the same images, in one thread. resdet trains
for `--steps` steps of custom.yaml in fp32; torchvision then trains for the same CPU time, including decoding, with
the settings of its references: SGD, horizontal flips, a warmup of a tenth of the length, and milestones at 16/26 and
22/26 of it. `--data` is any folder that custom.yaml recognizes.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

import resdet  # noqa: E402
from resdet.detection import Detector  # noqa: E402
from resdet.detection.evaluation import coco  # noqa: E402
from resdet.engine.run import Run  # noqa: E402
from resdet.files.atomic import write_json  # noqa: E402
from resdet.weights import pretrained  # noqa: E402
from resdet.weights.layouts.names import resnet_to_torchvision  # noqa: E402

BATCH, WARM = 2, 5  # images per step; steps of torchvision after which its length is set from the budget
METRICS = ("AP", "AP50", "AP75")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of annotated images")
    parser.add_argument("--weights", required=True, help="ImageNet weights of ResNet-50, of any supported library")
    parser.add_argument("--steps", type=int, default=80, help="training steps of resdet")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--size", type=int, nargs=2, default=(320, 427), help="shorter and longest side of the images")
    parser.add_argument("--peer-lr", type=float, default=0.01, help="learning rate of torchvision")
    parser.add_argument("--json", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="keys of custom.yaml, for both sides")
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for seed in parsed.seeds:
        ours = train_ours(overrides(parsed), seed, parsed.steps)
        peer = train_peer(overrides(parsed), parsed.weights, seed, ours["cpu_seconds"], parsed.peer_lr)
        for name, row in (("resdet", ours), ("torchvision", peer)):
            rows.append({"seed": seed, "side": name, **row})
            print(rows[-1], flush=True)
        if parsed.json:
            write_json(parsed.json, {"command": sys.argv[1:], "torch": torch.__version__, "runs": rows})


def overrides(parsed: argparse.Namespace) -> list[str]:
    short, longest = parsed.size
    values = {
        "data.root": parsed.data, "model.pretrained": parsed.weights, "model.input.min_size": short,
        "model.input.max_size": longest, "data.augment.min_size": [short], "data.augment.max_size": longest,
    }  # fmt: skip
    return [*(f"{key}={value}" for key, value in values.items()), *parsed.overrides]


class Stopwatch(resdet.engine.Callback):
    """Measures CPU seconds from the start of the training to the end of the last step."""

    def on_train_start(self, run: Run) -> None:
        self.start = time.process_time()

    def on_step_end(self, step: int, values: Mapping[str, float]) -> None:
        self.seconds = time.process_time() - self.start


def train_ours(words: list[str], seed: int, steps: int) -> dict[str, Any]:
    settings = {
        "train.batch": BATCH, "train.length": steps, "train.evaluate_every": steps, "train.checkpoint_every": steps,
        "train.seed": seed, "train.precision": "fp32", "data.workers": 0, "eval.losses": "false",
    }  # fmt: skip
    experiment = resdet.config.load("custom.yaml", *words, *(f"{key}={value}" for key, value in settings.items()))
    watch, folder = Stopwatch(), Path(tempfile.mkdtemp())
    try:
        metrics = resdet.train(experiment, str(folder / "run"), callbacks=[watch])
    finally:
        shutil.rmtree(folder)
    return {"steps": steps, "cpu_seconds": round(watch.seconds, 1), **{key: metrics[key] for key in METRICS}}


def train_peer(words: list[str], weights: str, seed: int, budget: float, lr: float) -> dict[str, Any]:
    train, val = (resdet.open_data("custom.yaml", split, *words, transform=as_floats) for split in ("train", "val"))
    torch.manual_seed(seed)
    model = resdet.build("custom.yaml", *words, f"model.num_classes={len(train.classes)}", expect=Detector)
    pretrained.load(model, weights, model.experiment["model"]["backbone"]["name"])
    detector = peer_of(model)
    optimizer = torch.optim.SGD(
        [p for p in detector.parameters() if p.requires_grad], lr=lr, momentum=0.9, weight_decay=1e-4
    )
    start, step, length, warm_up = time.process_time(), 0, 10**9, WARM
    for images, targets in batches(train):
        rate = min(1.0, (step + 1) / warm_up) * 0.1 ** ((step >= length * 16 / 26) + (step >= length * 22 / 26))
        for group in optimizer.param_groups:
            group["lr"] = lr * rate
        optimizer.zero_grad()
        sum(detector(images, targets).values()).backward()
        optimizer.step()
        step += 1
        seconds = time.process_time() - start
        if step == WARM:
            length = max(WARM + 1, round(budget / seconds * WARM))
            warm_up = max(WARM, length // 10)
        if step >= length:
            break
    metrics = evaluate(detector.eval(), val)
    return {"steps": step, "cpu_seconds": round(seconds, 1), **{key: metrics[key] for key in METRICS}}


def peer_of(model: Detector) -> nn.Module:
    """Returns torchvision's Faster R-CNN with weights, strides and normalization of a model's backbone."""
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.ops import FrozenBatchNorm2d

    fpn = resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=3, norm_layer=FrozenBatchNorm2d)
    if model.experiment["model"]["backbone"]["stride_in"] == "1x1":  # weights of MSRA and Keras
        for stage in (fpn.body.layer2, fpn.body.layer3, fpn.body.layer4):
            stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    state = {resnet_to_torchvision(name): tensor for name, tensor in model.backbone.state_dict().items()}
    fpn.body.load_state_dict(state)
    mean, deviation = ((values.flatten() / 255).tolist() for values in (model.normalize.mean, model.normalize.std))
    sizes = {"min_size": model.input.min_size, "max_size": model.input.max_size}
    return FasterRCNN(fpn, len(model.classes) + 1, image_mean=mean, image_std=deviation, **sizes).train()


def as_floats(image: Tensor, target: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    return image / 255, target


def batches(data: Any) -> Iterator[tuple[list[Tensor], list[dict[str, Tensor]]]]:
    """Yields shuffled batches of the images with objects without end, each image flipped with probability 1/2."""
    drawn: list[Any] = []
    while True:
        for index in torch.randperm(len(data)).tolist():
            image, target = data[index]
            if len(target["boxes"]):
                drawn.append(flipped(image, target) if torch.rand(()) < 0.5 else (image, target))
            if len(drawn) == BATCH:
                yield [image for image, _ in drawn], [target for _, target in drawn]
                drawn = []


def flipped(image: Tensor, target: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    left, top, right, bottom = target["boxes"].unbind(1)
    width = image.shape[2]
    return image.flip(2), {**target, "boxes": torch.stack([width - right, top, width - left, bottom], 1)}


@torch.inference_mode()
def evaluate(detector: Callable[..., Any], data: Any) -> dict[str, Any]:
    results = []
    for index in range(len(data)):
        output = detector([data[index][0]])[0]
        boxes = output["boxes"].clone()
        boxes[:, 2:] -= boxes[:, :2]
        for box, score, label in zip(boxes.tolist(), output["scores"].tolist(), output["labels"].tolist()):
            ids = {"image_id": data.source.result_id(index), "category_id": data.category_ids[label - 1]}
            results.append({**ids, "bbox": box, "score": score})
    return coco.evaluate(data.source.to_coco(), results, "bbox")


if __name__ == "__main__":
    main()
