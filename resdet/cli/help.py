"""The help of `resdet`: all commands on one screen, in groups, each with an example."""

import argparse
from typing import NoReturn

GROUPS = {  # title -> {arguments of an example: what it does}; the first word is the command
    "Models": {
        "train --config custom data.root=PHOTOS": "train a model on your images",
        "evaluate --weights runs/custom/best.pth": "metrics on the validation set",
        "predict --weights best.pth street.mp4": "predict on images, videos, cameras",
        "report runs/custom": "evaluate a run in one HTML file",
    },
    "Data": {
        "data check PHOTOS": "get, make, check, convert data sets",
    },
    "Deployment": {
        "serve runs/custom/best.pth": "a page and an HTTP API",
        "export best.pth --to onnx": "one graph: ONNX, OpenVINO, torch",
        "convert best.pth --to torchvision": "weights for another library",
    },
    "The paper": {
        "reproduce table6 --row resnet20": "train and test rows of its tables",
        "bench forward": "time resdet and other libraries",
        "parity torchvision": "compare outputs with other libraries",
    },
    "Lists": {
        "nets resnet50": "backbones, parameters, multiply-adds",
        "zoo mask_rcnn": "published models by name",
        "config --config custom": "a config with all settings",
        "completion bash": "completion for your shell",
    },
}
ACTIONS = (  # arguments of an example for each action of `resdet data`
    "get cifar10",
    "make shape_scenes photos --train 200 --val 40",
    "convert PHOTOS NEW --to coco",
    "split PHOTOS --val 0.2",
    "merge PHOTOS OTHERS NEW",
    "subset PHOTOS CARS --classes car,truck",
    "label PHOTOS LABELED --weights best.pth --to yolo",
    "shard PHOTOS SHARDS",
    "show PHOTOS --out sheet.png",
    "check PHOTOS --html page.html",
)
WIDTH = 40  # width of the examples


class Parser(argparse.ArgumentParser):
    """Appends the example of the help to the error for missing arguments."""

    example = ""

    def error(self, message: str) -> NoReturn:
        is_missing = message.startswith("the following arguments are required")
        super().error(f"{message}; for example: {self.example}" if is_missing and self.example else message)


def overview() -> str:
    blocks = []
    for title, examples in GROUPS.items():
        lines = [f"  {words:{WIDTH}}{summary}" for words, summary in examples.items()]
        blocks.append("\n".join([f"{title}:", *lines]))
    return "\n".join(blocks)


def add_examples(commands: dict[str, Parser]) -> None:
    """Appends its example to the help of each command."""
    for examples in GROUPS.values():
        for words in examples:
            end_with_example(commands[words.split()[0]], f"resdet {words}")


def add_action_examples(actions: dict[str, Parser]) -> None:
    """Appends its example to the help of each action of `resdet data`."""
    for words in ACTIONS:
        end_with_example(actions[words.split()[0]], f"resdet data {words}")


def end_with_example(parser: Parser, command: str) -> None:
    parser.example = command
    parser.epilog = "\n\n".join(filter(None, (parser.epilog, f"Example: {command}")))
