"""Tests the HTTP API: results against `predict`, output formats, parameters, models, health, token and OpenAPI."""

import asyncio
import csv
import io
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from detection.heads import tiny
from serve.serving import CLASSES, StandIn, form, picture

import resdet
import resdet.serve
from resdet.images.decode import EncodedImage
from resdet.serve.limits import Limits
from resdet.serve.models import Loaded
from resdet.tasks import tasks


@pytest.fixture(scope="module")
def detector():
    return tiny.make("fpn").eval()


@pytest.fixture(scope="module")
def classifier():
    model = resdet.build("shapes_resnet20", "model.backbone=cifar_resnet8", "model.num_classes=3")
    model.classes = CLASSES
    return model.eval()


def loaded(model) -> Loaded:
    return Loaded(model, model, tasks[model.task].predict_options)


def test_detections_match_predict(serve, detector):
    server, data = serve(boxes=loaded(detector)), picture(90, 120, ".jpg")
    expected = detector.predict(EncodedImage(data, "a"), score=0.2).to_dict()
    response = server.post(data, query={"score": 0.2}, content_type="image/jpeg")
    assert response.status == 200 and response.json["model"] == "boxes"
    (result,) = response.json["results"]
    assert len(result["detections"]) > 3
    assert result == {**expected, "image": "image 1"}


def test_results_of_a_form_keep_order_and_names(serve, detector):
    server = serve(boxes=loaded(detector))
    files = [("a.png", picture(60, 90)), ("../../etc/b\\c.png", picture(90, 60)), ("", picture(80, 80))]
    body, kind = form(files)
    results = server.post(body, content_type=kind).json["results"]
    assert [result["image"] for result in results] == ["a.png", "c.png", "image 3"]
    for (_, data), result in zip(files, results):
        alone = detector.predict(EncodedImage(data, "a"))
        found = np.array([each["box"] for each in result["detections"]])
        assert [result["height"], result["width"]] == list(alone.size)
        np.testing.assert_allclose(found, alone.boxes, atol=1e-2)


def test_classifications_match_predict(serve, classifier):
    server, data = serve(classes=loaded(classifier)), picture(40, 50)
    (result,) = server.post(data, query={"top": 2}).json["results"]
    expected = classifier.predict(EncodedImage(data, "a"), top=2)
    assert result["names"] == expected.names and len(expected) == 2
    np.testing.assert_allclose(result["scores"], expected.scores, rtol=1e-5)
    assert len(server.post(data).json["results"][0]["names"]) == 3  # the default of five, limited to three classes
    rows = list(csv.reader(io.StringIO(server.post(data, query={"format": "csv"}).body.decode())))
    assert rows[0] == ["image", "name", "label", "score"] and len(rows) == 4


def test_coco_entries_match_the_result(serve):
    server = serve()
    body, kind = form([("a.png", picture()), ("b.png", picture(10, 12))])
    entries = server.post(body, query={"format": "coco", "score": 0.5}, content_type=kind).json
    assert [entry["image_id"] for entry in entries] == [1, 1, 2, 2]
    assert entries == [e for n, size in ((1, (20, 30)), (2, (10, 12))) for e in StandIn().result(size).to_coco(n)[:2]]


def test_csv_has_a_row_for_each_detection(serve):
    body, kind = form([('a,"b".png'.replace('"', "'"), picture())])
    response = serve().post(body, query={"format": "csv"}, content_type=kind)
    assert response.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(response.body.decode())))
    assert [row["name"] for row in rows] == CLASSES and {row["image"] for row in rows} == {"a,'b'.png"}
    assert [float(rows[0][key]) for key in ("x1", "y1", "x2", "y2", "category_id")] == [0, 0, 30, 20, 1]


def test_a_drawn_image_has_the_size_of_the_image(serve):
    response = serve().post(picture(40, 60), query={"format": "image"})
    drawn = cv2.imdecode(np.frombuffer(response.body, np.uint8), cv2.IMREAD_COLOR)
    assert response.headers["content-type"] == "image/jpeg" and drawn.shape == (40, 60, 3)
    original = cv2.imdecode(np.frombuffer(picture(40, 60), np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(drawn.astype(int) - original)[:2].mean() > 20  # the upper edge of the box


def test_the_response_has_the_times_of_the_stages(serve):
    timing = serve().post(picture()).headers["server-timing"]
    assert re.fullmatch(r"decode;dur=[\d.]+, queue;dur=[\d.]+, net;dur=[\d.]+, encode;dur=[\d.]+", timing)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"score": "high"}, "score is 'high'"),
        ({"score": "nan"}, "score is 'nan'"),
        ({"score": "1.5"}, "give a number from 0 to 1"),
        ({"top": "3"}, "use score, and omit top"),
        ({"format": "xml"}, "give one of json, coco, csv, image"),
        ({"scores": "0.5"}, "did you mean score?"),
        ([("score", "0.5"), ("score", "0.6")], "more than once"),
    ],
)
def test_invalid_parameters(serve, query, words):
    response = serve().post(picture(), query=query)
    assert response.status == 422 and words in response.json["error"]


@pytest.mark.parametrize("top", ["0", "-1", "1.5", "many", "1000000", "9" * 5000, "٣"])
def test_invalid_numbers_of_classes(serve, classifier, top):
    response = serve(classes=loaded(classifier)).post(picture(), query={"top": top})
    assert response.status == 422 and "top is" in response.json["error"]


@pytest.mark.parametrize("query", [{"score": "0.5"}, {"format": "coco"}, {"format": "image"}])
def test_options_of_detectors_are_rejected_for_classifiers(serve, classifier, query):
    assert serve(classes=loaded(classifier)).post(picture(), query=query).status == 422


def test_requests_of_one_batch_have_separate_scores(serve):
    """Checks that each request is filtered by its score threshold although the model runs once for the batch."""
    stand_in = StandIn()
    server = serve(Limits(max_batch=3, max_wait=60), boxes=stand_in.loaded())

    async def together():
        return await asyncio.gather(
            *(server.ask("POST", f"/v1/predict?score={score}", picture()) for score in (0.2, 0.5, 0.7))
        )

    stand_in.batches.clear()
    responses = asyncio.run(together())
    assert [len(response.json["results"][0]["detections"]) for response in responses] == [3, 2, 1]
    assert len(stand_in.batches) == 1


def test_models_are_chosen_by_name(serve):
    first, second = StandIn(), StandIn()
    server = serve(first=first.loaded(), second=second.loaded())
    assert server.post(picture(8, 9), query={"model": "second"}).json["model"] == "second"
    assert second.batches[-1] == [(8, 9)] and first.batches[-1] != [(8, 9)]
    assert server.post(picture()).json["model"] == "first"
    response = server.post(picture(), query={"model": "third"})
    assert response.status == 404 and "first, second" in response.json["error"]
    listed = server.get("/v1/models").json
    assert [model["name"] for model in listed["models"]] == ["first", "second"]
    assert listed["max_bytes"] == Limits().max_bytes


def test_the_server_is_ready_once_all_models_are(serve):
    server = serve(first=StandIn().loaded(), second=StandIn().loaded())
    assert server.get("/readyz").status == 200
    server.models.get("second").current = None
    response = server.get("/readyz")
    assert response.status == 503 and response.json["error"] == "Not ready: second."
    shown = server.get("/metrics").body.decode()
    assert 'resdet_model_ready{model="first"} 1\n' in shown and 'resdet_model_ready{model="second"} 0\n' in shown
    assert server.post(picture()).status == 200


def test_a_loading_model_is_not_ready(serve):
    server = serve()
    server.models.get(None).current = None
    assert server.get("/healthz").status == 200
    for response in (server.get("/readyz"), server.post(picture())):
        assert response.status == 503 and response.headers["retry-after"] == "1" and "boxes" in response.json["error"]


def test_the_token_is_required(serve):
    server = serve(token="secret")
    for path in ("/v1/models", "/metrics"):
        assert server.get(path).status == 401
        assert server.get(path, authorization="Bearer secre").status == 401
        assert server.get(path, authorization="Bearer secret").status == 200
    assert server.post(picture()).status == 401
    assert server.post(picture(), authorization="Bearer secret").status == 200
    for path in ("/", "/docs", "/healthz", "/readyz", "/openapi.json"):
        assert server.get(path).status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v1/predict", 405), ("POST", "/v1/models", 405), ("GET", "/nothing", 404)]
)
def test_unknown_paths_and_methods(serve, method, path, status):
    response = asyncio.run(serve().ask(method, path))
    assert response.status == status and "see /docs" in response.json["error"]


def test_responses_match_the_openapi_schemas(serve, detector):
    """Validates responses of each kind against the schemas, and checks the listed parameters of /v1/predict."""
    jsonschema = pytest.importorskip("jsonschema")
    server = serve(boxes=loaded(detector))
    document = server.get("/openapi.json").json

    def check(content, name):
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(content)

    check(server.post(picture()).json, "Prediction")
    check(server.get("/v1/models").json["models"][0], "Model")
    check(server.post(picture(), query={"score": 2}).json, "Error")
    for entry in server.post(picture(), query={"format": "coco"}).json:
        check(entry, "CocoEntry")
    parameters = [each["name"] for each in document["paths"]["/v1/predict"]["post"]["parameters"]]
    assert sorted(parameters) == ["format", "model", "score", "top"]


def test_openapi_documents_statuses_and_limits(serve):
    """Compares with the statuses in the code, and with those that the token and the loading of models lead to."""
    sources = [path.read_text(encoding="utf-8") for path in Path(resdet.serve.__file__).parent.glob("*.py")]
    refused = set(re.findall(r"Refused\((\d{3})", "".join(sources)))
    limits = Limits(max_bytes=1234, max_pixels=5678, max_images=9)
    operations = serve(limits, first=StandIn().loaded(), second=StandIn().loaded()).get("/openapi.json").json["paths"]
    predict = operations["/v1/predict"]["post"]
    assert {"413", "503", "504"} < refused and set(predict["responses"]) == {"200", "401"} | refused
    assert "503" in operations["/readyz"]["get"]["responses"]
    assert all("401" in operations[path]["get"]["responses"] for path in ("/v1/models", "/metrics"))
    form = predict["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["properties"]["image"]["maxItems"] == 9
    assert all(str(limit) in predict["description"] for limit in (1234, 9, 5678))
    model = predict["parameters"][0]["schema"]
    assert model["enum"] == ["first", "second"] and model["default"] == "first"
    assert list(predict["responses"]["200"]["content"]) == ["application/json", "text/csv", "image/jpeg"]


@pytest.mark.parametrize("limits", [Limits(max_images=9, queue=7), Limits(max_images=7, queue=9)])
def test_openapi_documents_the_images_that_the_server_accepts(serve, limits):
    server = serve(limits)
    predict = server.get("/openapi.json").json["paths"]["/v1/predict"]["post"]
    most = predict["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]["image"]["maxItems"]
    for count, status in ((most, 200), (most + 1, 400)):
        body, kind = form([("a.png", picture())] * count)
        assert server.post(body, content_type=kind).status == status
    assert f" and {most} images" in predict["description"]


def test_openapi_references_are_defined(serve):
    document = serve().get("/openapi.json").json
    names = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert names and names <= set(document["components"]["schemas"])
