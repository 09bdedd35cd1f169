"""Runs a detector of `resdet export --to onnx` with onnxruntime, NumPy and OpenCV, without resdet and torch.

python examples/deploy/onnx_only.py best.onnx street.jpg
"""

import json
import sys

import cv2
import numpy as np
import onnxruntime


class Detector:
    """A file exported with `--nms inside`, the default."""

    def __init__(self, path):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # no warning that `score` is an input with a default value
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        metadata = self.session.get_modelmeta().custom_metadata_map
        read = lambda key: json.loads(metadata[f"resdet.{key}"])
        self.classes, self.shape, self.input = read("classes"), read("shape"), read("input")
        self.outputs = [output.name for output in self.session.get_outputs()]

    def detect(self, image, score=0.5):
        """Boxes [n, 4] (xyxy in pixels of the image), scores [n] and labels [n] of an RGB image, uint8 [H, W, 3]."""
        pixels, scale = self.prepare(image)
        inputs = {
            "images": self.pad(pixels).astype(np.uint8),
            "sizes": np.array([pixels.shape[:2]], np.float32),
            "score": np.array(score, np.float32),
        }
        found = dict(zip(self.outputs, self.session.run(self.outputs, inputs)))
        valid = found["valid"][0]
        boxes = found["boxes"][0, valid] / np.tile(scale, 2)
        return boxes, found["scores"][0, valid], found["labels"][0, valid]

    def prepare(self, image):
        """The image, resized to the short and long side of the model or to fit the graph, and its scale in x and y."""
        height, width = image.shape[:2]
        short, long = sorted((height, width))
        limits = self.input["min_size"] / short, self.input["max_size"] / long
        factor = min(*limits, self.shape[0] / height, self.shape[1] / width)
        size = max(1, round(width * factor)), max(1, round(height * factor))
        interpolation = cv2.INTER_AREA if factor < 0.5 else cv2.INTER_LINEAR
        return cv2.resize(image, size, interpolation=interpolation), np.array(size) / (width, height)

    def pad(self, pixels):
        """[h, w, 3] -> [1, 3, H, W], with zeros at the right and at the bottom."""
        padded = np.zeros((*self.shape, 3), pixels.dtype)
        padded[: pixels.shape[0], : pixels.shape[1]] = pixels
        return padded.transpose(2, 0, 1)[None]


if __name__ == "__main__":
    detector = Detector(sys.argv[1])
    image = cv2.cvtColor(cv2.imread(sys.argv[2]), cv2.COLOR_BGR2RGB)
    for box, score, label in zip(*detector.detect(image)):
        print(detector.classes[label], f"{score:.3f}", box.round(1).tolist())
