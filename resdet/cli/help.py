"""The help of `resdet`: all commands on one screen, in groups, with an example of each."""

import argparse

GROUPS = {  # title -> the arguments of an example -> what it does; the first word is the command
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
WIDTH = 40  # of an example


def overview() -> str:
    blocks = []
    for title, examples in GROUPS.items():
        lines = [f"  {words:{WIDTH}}{summary}" for words, summary in examples.items()]
        blocks.append("\n".join([f"{title}:", *lines]))
    return "\n".join(blocks)


def add_examples(commands: dict[str, argparse.ArgumentParser]) -> None:
    """Ends the help of each command with its example."""
    for examples in GROUPS.values():
        for words in examples:
            parser = commands[words.split()[0]]
            parser.epilog = "\n\n".join(filter(None, (parser.epilog, f"Example: resdet {words}")))
