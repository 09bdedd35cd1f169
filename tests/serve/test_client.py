"""Tests the HTTP client: its results against the model's `predict`, and its error messages."""

import socket
from concurrent.futures import Future
from http.client import HTTPConnection, HTTPSConnection
from threading import Thread

import cv2
import numpy as np
import pytest
import torch
from detection.heads import tiny
from PIL import Image
from serve.serving import PATIENCE, StandIn, listening, picture
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Mount

import resdet
import resdet.serve
from resdet.results.classification import Classification
from resdet.serve import client
from resdet.serve.client import CONNECTIONS, encode_form, result_of
from resdet.serve.limits import Limits
from resdet.serve.models import Loaded
from resdet.tasks import tasks


def loaded(model) -> Loaded:
    return Loaded(model, model, tasks[model.task].predict_options)


def test_results_match_the_model(serve, tmp_path):
    """Compares boxes, scores, classes and masks for paths, bytes and arrays, in one request and in several."""
    model, photo = tiny.make("fpn").eval(), picture(90, 120)
    (tmp_path / 'a "b".png').write_bytes(photo)
    pixels = cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR_RGB)
    expected = model.predict(pixels, score=0.2)
    with listening(serve(boxes=loaded(model)).app) as url:
        found = resdet.serve.predict(url, [tmp_path / 'a "b".png', photo, pixels], score=0.2, batch=2)
        alone = resdet.serve.predict(url, str(tmp_path / 'a "b".png'), score=0.2)
        assert resdet.serve.predict(url, []) == []
    assert len(expected) > 3 and alone.image == str(tmp_path / 'a "b".png')
    for result in [*found, alone]:
        np.testing.assert_allclose(result.boxes, expected.boxes, atol=1e-2)
        np.testing.assert_allclose(result.scores, expected.scores, atol=1e-4)
        assert result.names == expected.names and result.size == expected.size
        assert (result.category_ids == expected.category_ids).all() and (result.labels == expected.labels).all()
        assert (result.masks == expected.masks).mean() > 0.999
    assert alone.draw().shape == (90, 120, 3)


def test_inputs_are_those_of_predict(serve, tmp_path):
    """Compares the sizes of the results for a folder, a PIL image, a tensor, a batch and an iterator."""
    (tmp_path / "a.png").write_bytes(picture(20, 30))
    pixels = np.zeros((20, 30, 3), np.uint8)
    whole, tensor = Image.fromarray(pixels), torch.zeros(3, 20, 30)
    with listening(serve().app) as url:
        ask = lambda images: resdet.serve.predict(url, images)
        assert ask(whole).size == ask(tensor).size == (20, 30)
        for images in (tmp_path, str(tmp_path / "*.png"), pixels[None], tensor[None], iter([picture(20, 30)])):
            assert [result.size for result in ask(images)] == [(20, 30)]
        assert len(ask([whole, tensor, [pixels], tmp_path, picture()])) == 5


def test_keypoints_round_trip():
    keypoints = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    result = resdet.Result(
        np.eye(2, 4, dtype=np.float32), np.array([0.5, 0.25], np.float32), np.array([0, 1]), ["a", "b"],
        np.array([3, 5]), (9, 8), keypoints=keypoints, keypoint_names=["nose", "tail"], skeleton=[(0, 1)],
    )  # fmt: skip
    back = result_of(result.to_dict(), b"")
    assert (back.keypoints == keypoints).all() and back.keypoint_names == ["nose", "tail"]
    assert back.skeleton == [(0, 1)] and back.rles is None and back.size == (9, 8)
    assert len(result_of(result.select([]).to_dict(), b"").keypoints) == 0


def test_an_image_without_detections_has_no_masks():
    model = tiny.make("fpn").eval()
    empty = model.predict(np.zeros((30, 40, 3), np.uint8), score=1.0)
    assert result_of(empty.to_dict(), b"").masks.shape == empty.masks.shape == (0, 30, 40)


def test_classes_and_models_by_name(serve):
    model = resdet.build("shapes_resnet20", "model.backbone=cifar_resnet8", "model.num_classes=3").eval()
    with listening(serve(boxes=StandIn().loaded(), classes=loaded(model)).app) as url:
        found = resdet.serve.predict(url, picture(), top=2, model="classes")
        assert isinstance(found, Classification) and len(found) == 2
        assert len(resdet.serve.predict(url + "/", picture(), score=0.5)) == 2


def test_a_server_below_a_path(serve):
    """Checks an address with a path, as behind a proxy with several servers."""
    with listening(Starlette(routes=[Mount("/boxes", serve().app)])) as url:
        assert len(resdet.serve.predict(f"{url}/boxes/", picture())) == 3


@pytest.mark.parametrize("scheme, kind, port", [("http", HTTPConnection, 80), ("https", HTTPSConnection, 443)])
def test_addresses_have_the_default_port_of_their_scheme(scheme, kind, port):
    http = client.Address(f"{scheme}://host", None, 1.0).http
    assert type(http) is kind and http.port == port


def test_error_messages(serve, tmp_path):
    with listening(serve(token="secret").app) as url:
        assert len(resdet.serve.predict(url, picture(), token="secret")) == 3
        with pytest.raises(resdet.Error, match="401.*token"):
            resdet.serve.predict(url, picture())
        with pytest.raises(resdet.Error, match="422: .*image 2 is not an image"):
            resdet.serve.predict(url, [picture(), b"no"], token="secret")
    for token in ("secret\n", "sécret"):
        with pytest.raises(resdet.Error, match="The token has a line break or other characters"):
            resdet.serve.predict(url, picture(), token=token)
    with pytest.raises(resdet.Error, match="NoneType is not an image"):
        resdet.serve.predict(url, None)
    with pytest.raises(resdet.Error, match=r"given array is uint8 \[8, 8\]"):
        resdet.serve.predict(url, np.zeros((8, 8), np.uint8))
    for address in ("localhost:8000", "http://127.0.0.1:http", "http://"):
        with pytest.raises(resdet.Error, match="not the address"):
            resdet.serve.predict(address, picture())
    with pytest.raises(resdet.Error, match="cannot read"):
        resdet.serve.predict(url, tmp_path / "none.jpg")
    with pytest.raises(resdet.Error, match="is float64 .*give RGB pixels as uint8"):
        resdet.serve.predict(url, np.zeros((8, 8, 3)))
    with pytest.raises(resdet.Error, match="batch is 0"):
        resdet.serve.predict(url, [picture()], batch=0)
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(resdet.Error, match="start `resdet serve`"):
        resdet.serve.predict(f"http://127.0.0.1:{port}", picture())


def answering(answer: bytes):
    """Starts a server that sends these bytes once; returns its URL and a future that is set when the client closes."""
    server, closed = socket.create_server(("127.0.0.1", 0)), Future()

    def run():
        with server, server.accept()[0] as connection:
            connection.settimeout(PATIENCE)
            connection.recv(2**20)
            connection.sendall(answer)
            while connection.recv(2**20):
                pass
            closed.set_result(True)

    Thread(target=run, daemon=True).start()
    return f"http://127.0.0.1:{server.getsockname()[1]}", closed


@pytest.mark.parametrize(
    "answer, words",
    [
        (b"garbage\r\n\r\n", "does not answer .*garbage"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", "is another server than .resdet serve."),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "is another server than .resdet serve."),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\nnone", "answered 502: no error of resdet serve"),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\n{}", "answered 403: no error of resdet serve"),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\n[1]", "answered 403: no error of resdet serve"),
    ],
)
def test_responses_of_other_programs_are_rejected(answer, words):
    url, closed = answering(answer)
    with pytest.raises(resdet.Error, match=words):
        resdet.serve.predict(url, picture())
    assert closed.result(PATIENCE)


class Clock:
    """A clock that sleeping advances."""

    def __init__(self):
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return float(sum(self.waits))

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)


def busy(app, times: int, headers: dict[str, str], status: int = 503):
    """An application that refuses the first requests."""
    left = [times]

    async def answer(scope, receive, send):
        left[0] -= 1
        full = JSONResponse({"error": "The queue is full: try again."}, status, headers)
        await (full if left[0] >= 0 else app)(scope, receive, send)

    return answer


@pytest.mark.parametrize(
    "headers, timeout, waits, is_answered",
    [
        ({"Retry-After": "3"}, 60, [3, 3], True),
        ({"Retry-After": "0"}, 60, [1, 1], True),
        ({"Retry-After": "3"}, 5, [3], False),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, 60, [], False),
        ({"Retry-After": "3.5"}, 60, [], False),
        ({"Retry-After": "9" * 5000}, 60, [], False),  # more digits than Python converts
        ({}, 60, [], False),
    ],
)
def test_refused_requests_are_retried(serve, monkeypatch, headers, timeout, waits, is_answered):
    clock = Clock()
    monkeypatch.setattr(client, "time", clock)
    with listening(busy(serve().app, 2, headers)) as url:
        if is_answered:
            assert len(resdet.serve.predict(url, picture(), timeout=timeout)) == 3
        else:
            with pytest.raises(resdet.Error, match="answered 503: The queue is full"):
                resdet.serve.predict(url, picture(), timeout=timeout)
    assert clock.waits == waits


def test_only_temporary_refusals_are_retried(serve, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(client, "time", clock)
    with listening(busy(serve().app, 1, {"Retry-After": "1"}, status=429)) as url:
        with pytest.raises(resdet.Error, match="answered 429"):
            resdet.serve.predict(url, picture())
    assert clock.waits == []


def test_file_names_are_escaped():
    """Checks that quotes are percent-encoded as in browsers and that line breaks are removed."""
    body, _ = encode_form([('a "b".png', b"data"), ("c\r\nd.png", b"")])
    assert b'filename="a %22b%22.png"\r\n\r\ndata' in body and b'filename="cd.png"' in body


def test_the_timeout_of_the_client():
    """Checks the error of a server that never responds."""
    url, _ = answering(b"")
    with pytest.raises(resdet.Error, match="does not answer .timed out"):
        resdet.serve.predict(url, picture(), timeout=0.05)


def test_a_refused_body_is_reported(serve):
    """Checks that the client reads the answer of a server that closes the connection before the end of the body."""
    with listening(serve(token="secret").app) as url:
        with pytest.raises(resdet.Error, match="answered 413: The body exceeds"):
            resdet.serve.predict(url, bytes(2**25), token="secret")
        with pytest.raises(resdet.Error, match="answered 401: The token is missing"):
            resdet.serve.predict(url, bytes(2**25))


def test_connections_are_closed(serve, monkeypatch):
    made = []
    kept = lambda *given, **named: made.append(HTTPConnection(*given, **named)) or made[-1]
    monkeypatch.setitem(CONNECTIONS, "http", kept)
    with listening(serve().app) as url:
        resdet.serve.predict(url, [picture(), picture()], batch=1)
    assert [connection.sock for connection in made] == [None]


def test_a_server_may_close_connections_between_requests():
    """Uses a server that closes the connection after its response, as an idle timeout would."""
    content = b'{"results": [{"names": [], "labels": [], "scores": []}]}'
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content)

    def run():
        for _ in range(2):
            with server.accept()[0] as connection:
                body = b""
                while not body.endswith(b"--\r\n"):
                    body += connection.recv(2**20)
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        Thread(target=run, daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert len(resdet.serve.predict(url, [picture(), picture()], batch=1, timeout=PATIENCE)) == 2


def test_many_images_are_split_into_requests(serve):
    server = serve()
    with listening(server.app) as url:
        found = resdet.serve.predict(url, [picture(9, 10 + number) for number in range(5)], batch=2)
    assert [result.size for result in found] == [(9, 10 + number) for number in range(5)]
    labels = ("route", "/v1/predict"), ("status", "200")
    assert server.metrics.counts["resdet_requests_total", labels] == 3


def test_defaults_are_within_the_limits_of_the_server():
    """Checks that several images are not refused, and that the client waits longer than the server takes."""
    limits = Limits()
    assert 2 * client.MOST_BYTES == limits.max_bytes and client.TIMEOUT > limits.body_timeout + limits.timeout


def test_the_folder_of_a_file_is_not_sent(tmp_path):
    (tmp_path / "a.png").write_bytes(b"pixels")
    assert client.read(tmp_path / "a.png") == client.read(str(tmp_path / "a.png")) == ("a.png", b"pixels")


def test_requests_hold_a_bounded_number_of_bytes(monkeypatch):
    monkeypatch.setattr(client, "MOST_BYTES", 100)
    grouped = lambda sizes, most: [
        [len(content) for _, (_, content) in group] for group in client.groups(map(bytes, sizes), most)
    ]
    assert grouped((60, 40, 1, 200, 30, 30, 30), 2) == [[60, 40], [1], [200], [30, 30], [30]]
    assert grouped((40, 30, 20, 20), 9) == [[40, 30, 20], [20]]
