"""Tests the server benchmark at small sizes: its clients count the responses, and its rows have all sides."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread

import pytest

from resdet.bench import serve
from resdet.bench.load import load
from resdet.timing import measure


class Handler(BaseHTTPRequestHandler):
    """Answers every third request with 503; records requests and connections."""

    protocol_version = "HTTP/1.1"
    lock, requests, connections = Lock(), [], set()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.lock:
            self.requests.append(body)
            self.connections.add(self.client_address)
            status = 503 if len(self.requests) % 3 == 0 else 200
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def test_each_client_sends_requests_over_one_connection():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    found = asyncio.run(load(f"http://127.0.0.1:{server.server_port}/v1/predict", b"image", clients=4, requests=30))
    server.shutdown()
    server.server_close()
    assert Handler.requests == [b"image"] * 30 and 1 <= len(Handler.connections) <= 4
    assert len(found["latencies"]) == 30 and found["failures"] == {503: 10}
    assert 0 < max(found["latencies"]) <= found["seconds"]


@pytest.mark.slow
def test_rows_of_a_small_model():
    pytest.importorskip("starlette")
    nets = {"small": ("shapes_resnet20", "model.backbone=cifar_resnet8", "model.num_classes=3")}
    rows = []
    for case in serve.cases(nets, requests=4):
        rows.append((case, measure(case, 1, print)))
    (throughput, seconds), (_, memory) = rows
    assert list(seconds) == ["model, batches of 8", "1 clients", "8 clients", "64 clients"]
    assert "64 clients: p50 " in throughput.note and " p99 " in throughput.note
    spent = re.findall(r"CPU of the server (\S+) ms a request", throughput.note)
    assert "model: CPU " in throughput.note and len(spent) == 3 and all(0 < float(each) < 1e4 for each in spent)
    assert all(values[0] > 50 for values in memory.values())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends processes without a signal")
def test_the_processes_of_a_benchmark_that_is_ended_end_with_it():
    """Reads the shared output of both processes, which ends when both have ended."""
    code = """
from resdet.bench.process import Process, exit_on_sigterm
import time
with exit_on_sigterm():
    child = Process("http.server", "0", "--bind", "127.0.0.1")
    time.sleep(600)
"""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONUNBUFFERED": "1"}, **pipes) as parent:
        assert "Serving HTTP" in parent.stdout.readline()  # of the child
        parent.send_signal(signal.SIGTERM)
        parent.communicate(timeout=60)
    assert parent.returncode == 128 + signal.SIGTERM


def test_missing_packages_are_reported(monkeypatch):
    monkeypatch.setattr(serve, "missing", lambda *packages: True)
    (case,) = serve.cases({"small": ("shapes_resnet20",)}, requests=4)
    assert set(case.sides.values()) == {"not installed"}
