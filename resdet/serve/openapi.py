"""The OpenAPI document of the server."""

from collections.abc import Iterable, Mapping
from typing import Any

from resdet import __version__
from resdet.serve.formats import FORMATS
from resdet.serve.limits import Limits
from resdet.serve.query import MOST_CLASSES

BINARY = {"type": "string", "contentMediaType": "application/octet-stream"}
NUMBERS = {"type": "array", "items": {"type": "number"}}
ERROR_CODES = {
    400: "The form is malformed or has too many files.",
    401: "The token is missing or wrong.",
    404: "There is no model of this name.",
    408: "The body did not arrive in time.",
    413: "The body or the pixels of an image exceed a limit.",
    415: "The content type is not that of an image.",
    422: "A parameter is invalid or not for this model, or the body is not a complete image.",
    500: "The net failed.",
    503: "The queue is full, or the model is loading: try again after the seconds in Retry-After.",
    504: "The results did not arrive in time.",
}
DETECTION = {
    "type": "object",
    "required": ["name", "label", "category_id", "score", "box"],
    "properties": {
        "name": {"type": "string", "description": "The class."},
        "label": {"type": "integer", "description": "The index of the class, from 0."},
        "category_id": {"type": "integer", "description": "The id of the class in the annotation file."},
        "score": {"type": "number"},
        "box": {**NUMBERS, "description": "x1, y1, x2, y2 in pixels of the image, right and bottom exclusive."},
        "segmentation": {
            "type": "object",
            "description": "The mask as COCO's compressed run lengths.",
            "properties": {"size": NUMBERS, "counts": {"type": "string"}},
        },
        "keypoints": {
            "type": "object",
            "description": "x, y and score by name.",
            "additionalProperties": NUMBERS,
        },
    },
}
DETECTIONS = {
    "type": "object",
    "required": ["image", "height", "width", "detections"],
    "properties": {
        "image": {"type": "string", "description": "The file name."},
        "height": {"type": "integer"},
        "width": {"type": "integer"},
        "detections": {"type": "array", "items": {"$ref": "#/components/schemas/Detection"}},
        "skeleton": {
            "type": "array",
            "items": NUMBERS,
            "description": "Pairs of keypoints to connect, as positions in `keypoints`.",
        },
    },
}
CLASSES = {
    "type": "object",
    "required": ["image", "names", "labels", "scores"],
    "properties": {
        "image": {"type": "string", "description": "The file name."},
        "names": {"type": "array", "items": {"type": "string"}},
        "labels": {"type": "array", "items": {"type": "integer"}},
        "scores": NUMBERS,
    },
}
PREDICTION = {
    "type": "object",
    "required": ["model", "results"],
    "properties": {
        "model": {"type": "string"},
        "results": {
            "type": "array",
            "items": {"anyOf": [{"$ref": "#/components/schemas/Detections"}, {"$ref": "#/components/schemas/Classes"}]},
        },
    },
}
COCO_ENTRY = {
    "type": "object",
    "required": ["image_id", "category_id", "bbox", "score"],
    "properties": {
        "image_id": {"type": "integer", "description": "The number of the image in the request, from 1."},
        "category_id": {"type": "integer"},
        "bbox": NUMBERS,
        "score": {"type": "number"},
    },
}
MODEL = {
    "type": "object",
    "required": ["name", "file", "ready", "task", "classes", "options", "loaded_at", "problem"],
    "properties": {
        "name": {"type": "string"},
        "file": {"type": "string"},
        "ready": {"type": "boolean"},
        "task": {"type": ["string", "null"]},
        "classes": {"type": "array", "items": {"type": "string"}},
        "options": {
            "type": "array",
            "items": {"enum": ["draw", "score", "top"]},
            "description": "Parameters of /v1/predict that the model supports; draw: format=coco and format=image.",
        },
        "loaded_at": {"type": ["number", "null"], "description": "Seconds since 1970."},
        "problem": {"type": ["string", "null"], "description": "Why the changed file could not be loaded, if so."},
    },
}
ERROR = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}


def document(limits: Limits, models: Iterable[str]) -> dict[str, Any]:
    schemas = {
        "Prediction": PREDICTION,
        "Detections": DETECTIONS,
        "Detection": DETECTION,
        "Classes": CLASSES,
        "CocoEntry": COCO_ENTRY,
        "Model": MODEL,
        "Error": ERROR,
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "resdet",
            "version": __version__,
            "summary": "Predictions of classifiers, detectors and localizers.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": {
            "/v1/predict": {"post": predict(limits, list(models))},
            "/v1/models": {"get": list_models()},
            "/healthz": {"get": status("alive", "Answers if the process is alive.")},
            "/readyz": {"get": status("ready", "Answers 200 once all models are loaded and warm.", 503)},
            "/metrics": {"get": metrics()},
            "/openapi.json": {"get": get("openapi", "This document.", json_content({"type": "object"}))},
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "If the server runs with --token."}
            },
        },
    }


def predict(limits: Limits, models: list[str]) -> dict[str, Any]:
    parts = {"type": "array", "items": BINARY, "minItems": 1, "maxItems": limits.form_images}
    form = {"type": "object", "properties": {"image": parts}, "required": ["image"]}
    entries = {"type": "array", "items": {"$ref": "#/components/schemas/CocoEntry"}}
    results = {
        "application/json": {"schema": {"anyOf": [{"$ref": "#/components/schemas/Prediction"}, entries]}},
        "text/csv": {"schema": {"type": "string"}},
        "image/jpeg": {"schema": BINARY},
    }
    return {
        "operationId": "predict",
        "summary": "Predicts on one image or on several.",
        "description": f"A body has at most {limits.max_bytes} bytes and {limits.form_images} images of at most "
        f"{limits.max_pixels} pixels: JPEG, PNG, WebP, BMP, GIF or TIFF. The header Server-Timing has the milliseconds "
        "that the request spent in decode, queue, net and encode.",
        "security": [{}, {"token": []}],
        "parameters": [
            parameter("model", {"type": "string", "enum": models, "default": models[0]}, "The name of the model."),
            parameter("score", {"type": "number", "minimum": 0, "maximum": 1}, "The lowest score of detections."),
            parameter(
                "top", {"type": "integer", "minimum": 1, "maximum": MOST_CLASSES}, "The number of classes per image."
            ),
            parameter(
                "format",
                {"type": "string", "enum": list(FORMATS), "default": "json"},
                "json; coco: entries of a results file; csv: a row per detection; image: the drawn image as a JPEG.",
            ),
        ],
        "requestBody": {
            "required": True,
            "description": "One image, or a form with an image in each file.",
            "content": {
                "image/jpeg": {"schema": BINARY},
                "image/png": {"schema": BINARY},
                "application/octet-stream": {"schema": BINARY},
                "multipart/form-data": {"schema": form},
            },
        },
        "responses": {"200": {"description": "The results.", "content": results}, **errors(*ERROR_CODES)},
    }


def list_models() -> dict[str, Any]:
    models = {"type": "array", "items": {"$ref": "#/components/schemas/Model"}}
    limit = {"type": "integer", "description": "The maximum number of bytes of a body."}
    properties = {"models": models, "max_bytes": limit}
    listed = json_content({"type": "object", "required": list(properties), "properties": properties})
    return get("models", "Lists the models, and the limit of a body.", listed, 401) | {"security": [{}, {"token": []}]}


def metrics() -> dict[str, Any]:
    text = {"text/plain": {"schema": {"type": "string"}}}
    summary = "Counts of requests, batches, queues and latencies for Prometheus."
    return get("metrics", summary, text, 401) | {"security": [{}, {"token": []}]}


def status(word: str, summary: str, *codes: int) -> dict[str, Any]:
    content = {"type": "object", "required": ["status"], "properties": {"status": {"const": word}}}
    return get(word, summary, json_content(content), *codes)


def get(name: str, summary: str, content: Mapping[str, Any], *codes: int) -> dict[str, Any]:
    responses = {"200": {"description": summary, "content": content}, **errors(*codes)}
    return {"operationId": name, "summary": summary, "responses": responses}


def parameter(name: str, schema: Mapping[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def errors(*codes: int) -> dict[str, Any]:
    content = json_content({"$ref": "#/components/schemas/Error"})
    return {str(code): {"description": ERROR_CODES[code], "content": content} for code in codes}


def json_content(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
