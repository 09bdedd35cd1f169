"""Runs a detector of `resdet export --to onnx` with onnxruntime, NumPy and OpenCV, without resdet and torch.

python examples/deploy/onnx_only.py best.onnx street.jpg
"""

import json
import sys

import cv2
import numpy as np
import onnxruntime


class Detector:
    """A file exported with NMS in the graph; masks are pasted here, or in the graph with `--masks inside`."""

    def __init__(self, path):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # hides the warning that the input `score` has a default value
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        metadata = self.session.get_modelmeta().custom_metadata_map
        read = lambda key: json.loads(metadata[f"resdet.{key}"])
        self.classes, self.shape, self.input, self.masks = map(read, ("classes", "shape", "input", "masks"))
        self.outputs = [output.name for output in self.session.get_outputs()]

    def detect(self, image, score=0.5):
        """Detects objects in an RGB image, uint8 [H, W, 3]: boxes [n, 4] (xyxy in pixels), scores [n], labels [n] and,
        if the file predicts them, masks bool [n, H, W] and keypoints [n, K, 3] (x, y, score)."""
        pixels, scale = self.prepare(image)
        inputs = {
            "images": self.pad(pixels).astype(np.uint8),
            "sizes": np.array([pixels.shape[:2]], np.float32),
            "score": np.array(score, np.float32),
        }
        found = dict(zip(self.outputs, self.session.run(self.outputs, inputs)))
        found = {name: values[0, found["valid"][0]] for name, values in found.items()}
        boxes = found["boxes"] / np.tile(scale, 2)
        result = {"boxes": boxes, "scores": found["scores"], "labels": found["labels"]}
        if "masks" in found:
            if self.masks == "inside":
                masks = [unpad(mask, *pixels.shape[:2], *image.shape[:2]) for mask in found["masks"]]
            else:
                masks = [paste(mask, box, *image.shape[:2]) for mask, box in zip(found["masks"], boxes)]
            result["masks"] = np.array(masks, bool).reshape(-1, *image.shape[:2])
        if "heatmaps" in found:
            result["keypoints"] = locate(found["heatmaps"], found["boxes"]) / np.append(scale, 1)
        return result

    def prepare(self, image):
        """Resizes the image to the model's short and long side, or to fit the graph; returns it and its x, y scales."""
        height, width = image.shape[:2]
        short, long = sorted((height, width))
        limits = self.input["min_size"] / short, self.input["max_size"] / long
        factor = min(*limits, self.shape[0] / height, self.shape[1] / width)
        size = max(1, round(width * factor)), max(1, round(height * factor))
        interpolation = cv2.INTER_AREA if factor < 0.5 else cv2.INTER_LINEAR
        return cv2.resize(image, size, interpolation=interpolation), np.array(size) / (width, height)

    def pad(self, pixels):
        """Pads [h, w, 3] to [1, 3, H, W], with zeros at the right and at the bottom."""
        padded = np.zeros((*self.shape, 3), pixels.dtype)
        padded[: pixels.shape[0], : pixels.shape[1]] = pixels
        return padded.transpose(2, 0, 1)[None]


def paste(mask, box, height, width):
    """Pastes the mask [m, m] of a box into an image: bool [height, width]."""
    (left, top), side = box[:2], np.maximum(box[2:] - box[:2], 1e-6)
    cells = len(mask) / side  # cells per pixel; the centers of the first pixel and cell are at 0.5
    x, y = (0.5 - np.array([left, top])) * cells - 0.5
    to_cells = np.array([[cells[0], 0, x], [0, cells[1], y]])
    return cv2.warpAffine(mask, to_cells, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP) > 0.5


def unpad(mask, rows, columns, height, width):
    """Crops the mask of a padded image to its unpadded rows and columns and resizes it: bool [height, width]."""
    return cv2.resize(mask[:rows, :columns], (width, height), interpolation=cv2.INTER_LINEAR) > 0.5


def locate(heatmaps, boxes):
    """Returns keypoints [n, K, 3] (x, y, score) at the maxima of heatmaps [n, K, m, m], resized to their boxes."""
    keypoints = np.zeros((*heatmaps.shape[:2], 3))
    for row, maps, box in zip(keypoints, heatmaps, boxes):
        side = np.maximum(box[2:] - box[:2], 1)
        cells = np.ceil(side).astype(int)  # width and height of the resized heatmap
        for point, heatmap in zip(row, maps):
            resized = cv2.resize(heatmap, cells, interpolation=cv2.INTER_CUBIC)
            place = resized.argmax()
            position = np.array([place % cells[0], place // cells[0]]) + 0.5
            point[:] = *(box[:2] + position * side / cells), resized.flat[place]
    return keypoints


if __name__ == "__main__":
    detector = Detector(sys.argv[1])
    image = cv2.cvtColor(cv2.imread(sys.argv[2]), cv2.COLOR_BGR2RGB)
    found = detector.detect(image)
    for box, score, label in zip(found["boxes"], found["scores"], found["labels"]):
        print(detector.classes[label], f"{score:.3f}", box.round(1).tolist())
