"""Tests the server under load with aborted, broken and refused requests: each is counted once and frees its place."""

import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from urllib.parse import urlsplit

from serve.serving import PATIENCE, StandIn, listening, picture, until

from resdet.serve.limits import Limits

IMAGE = picture(90, 120)
HEAD = f"POST /v1/predict HTTP/1.1\r\nHost: a\r\nContent-Length: {len(IMAGE)}\r\n\r\n".encode()


def post(address, body, path="/v1/predict") -> int:
    connection = HTTPConnection(*address, timeout=PATIENCE)
    connection.request("POST", path, body)
    status = connection.getresponse().status
    connection.close()
    return status


def abort(address, data) -> None:
    """Sends these bytes and closes the connection without reading."""
    with socket.create_connection(address, timeout=PATIENCE) as connection:
        connection.sendall(data)


ACTIONS = {
    "a model": lambda address: post(address, IMAGE, "/v1/predict?model=first"),
    "another model": lambda address: post(address, IMAGE, "/v1/predict?model=second"),
    "a truncated image": lambda address: post(address, IMAGE[:-100]),
    "another path": lambda address: post(address, IMAGE, "/nothing"),
    "an aborted upload": lambda address: abort(address, HEAD + IMAGE[:50]),
    "an aborted response": lambda address: abort(address, HEAD + IMAGE),
}


def test_each_request_is_counted_once_and_leaves_its_place(serve):
    server = serve(Limits(queue=4), first=StandIn().loaded(), second=StandIn().loaded())
    workers = [model.worker for model in server.models.served.values()]
    with listening(server.app) as url, ThreadPoolExecutor(16) as clients:
        address = urlsplit(url).hostname, urlsplit(url).port
        asked = list(ACTIONS) * 20
        answers = Counter(zip(asked, clients.map(lambda name: ACTIONS[name](address), asked)))
        counted = lambda: [value for (name, _), value in list(server.metrics.counts.items()) if "requests" in name]
        until(lambda: sum(counted()) == len(asked))
        assert all(worker.admitted == 0 and not worker.items for worker in workers)
        assert post(address, IMAGE) == 200
    statuses = {name: {status for known, status in answers if known == name} for name in ACTIONS}
    assert statuses["a model"] | statuses["another model"] <= {200, 503} and statuses["another path"] == {404}
    assert statuses["a truncated image"] <= {422, 503}


def test_a_model_that_changes_under_load_answers_all_requests(serve):
    server = serve(Limits(queue=1000))
    model = server.models.get(None)
    with listening(server.app) as url, ThreadPoolExecutor(16) as clients:
        address = urlsplit(url).hostname, urlsplit(url).port
        answers = [clients.submit(post, address, IMAGE) for _ in range(200)]
        for _ in range(20):
            model.current = StandIn().loaded()
            answers += [clients.submit(post, address, IMAGE) for _ in range(10)]
        assert {answer.result(PATIENCE) for answer in answers} == {200}


def test_the_images_of_closed_connections_are_dropped(serve):
    stand_in = StandIn()
    server = serve(Limits(max_wait=0), boxes=stand_in.loaded())
    worker = server.models.get(None).worker
    dropped = "resdet_dropped_images_total", (("model", "boxes"),)
    stand_in.go_on.clear()
    with listening(server.app) as url, ThreadPoolExecutor(1) as clients:
        address = urlsplit(url).hostname, urlsplit(url).port
        stand_in.started.clear()
        first = clients.submit(post, address, IMAGE)
        assert stand_in.started.wait(PATIENCE)
        with socket.create_connection(address, timeout=PATIENCE) as connection:
            connection.sendall(HEAD + IMAGE)
            until(lambda: worker.items)
        until(lambda: worker.admitted == 1)
        stand_in.go_on.set()
        assert first.result(PATIENCE) == 200
        until(lambda: server.metrics.counts[dropped] == 1)


def test_requests_in_progress_are_answered_after_the_server_is_stopped(serve):
    """Stops the server while images are predicted, wait in the queue and arrive."""
    stand_in = StandIn()
    server = serve(Limits(max_batch=2, max_wait=0), boxes=stand_in.loaded())
    worker = server.models.get(None).worker
    stand_in.go_on.clear()
    with socket.socket() as arriving, ThreadPoolExecutor(7) as clients:
        arriving.settimeout(PATIENCE)
        with listening(server.app) as url:
            address = urlsplit(url).hostname, urlsplit(url).port
            answers = [clients.submit(post, address, IMAGE) for _ in range(6)]
            arriving.connect(address)
            arriving.sendall(HEAD + IMAGE[:50])
            until(lambda: worker.admitted == 7)
            last = clients.submit(finish, arriving, address, stand_in)
        assert [answer.result(PATIENCE) for answer in answers] == [200] * 6
        assert last.result(PATIENCE).startswith(b"HTTP/1.1 200")


def finish(connection, address, stand_in) -> bytes:
    """Waits until the server is stopped, then sends the rest of an image and lets the stand-in go on."""
    until(lambda: refused(address))
    connection.sendall(IMAGE[50:])
    stand_in.go_on.set()
    return connection.recv(2**16)


def refused(address) -> bool:
    try:
        socket.create_connection(address, timeout=PATIENCE).close()
    except ConnectionError:
        return True
    return False
