"""Tests `resdet serve` as a process: start, connections and shutdown."""

import re
import signal
import socket
import sys
from http.client import HTTPConnection

import pytest
from serve.serving import PATIENCE, exchange, listening, picture
from uvicorn import Server
from uvicorn.server import HANDLED_SIGNALS

import resdet
from resdet.serve.limits import Limits
from resdet.serve.processes import visible_gpus
from resdet.serve.server import configuration, stopped_by_signals
from resdet.weights import save_weights


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "small.safetensors"
    save_weights.save(
        resdet.build("shapes_resnet20", "model.backbone=cifar_resnet8", "model.num_classes=3"), path, "safetensors"
    )
    return path


def line_with(stream, words: str) -> str:
    for line in stream:
        if words in line:
            return line
    raise AssertionError(f"no line with {words!r}")


def ask(connection: HTTPConnection, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    connection.request(method, path, body, {"Content-Type": "image/png"})
    response = connection.getresponse()
    return response.status, response.read()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_after_pending_requests(start, checkpoint, number):
    process = start("serve", f"net={checkpoint}", "--port", "0", "--device", "cpu", "--log-requests")
    try:
        port = int(re.search(r":(\d+)$", line_with(process.stderr, "listening").strip())[1])
        line_with(process.stderr, "net is ready")
        connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        assert ask(connection, "POST", "/v1/predict", picture())[0] == 200
        assert ask(connection, "GET", "/readyz")[0] == 200

        body = picture()
        head = f"POST /v1/predict HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\nContent-Type: image/png\r\n\r\n"
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as taken:
            taken.sendall(head.encode() + body[:50])
            while b'resdet_queue_images{model="net"} 1' not in ask(connection, "GET", "/metrics")[1]:
                pass
            process.send_signal(number)
            refused(port)
            taken.sendall(body[50:])
            answer = b"".join(iter(lambda: taken.recv(2**16), b""))
        assert answer.startswith(b"HTTP/1.1 200 OK") and b'"names"' in answer
        output, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0 and "Traceback" not in errors and errors.strip().endswith("stopped")
    finally:
        process.kill()


def test_a_second_interrupt_ends_the_process_immediately(start, checkpoint):
    """Checks that no traceback of a canceled request is printed."""
    process = start("serve", f"net={checkpoint}", "--port", "0", "--device", "cpu", "--body-timeout", str(PATIENCE))
    try:
        port = int(re.search(r":(\d+)$", line_with(process.stderr, "listening").strip())[1])
        line_with(process.stderr, "net is ready")
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as taken:
            taken.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n.")
            connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
            while b'resdet_queue_images{model="net"} 1' not in ask(connection, "GET", "/metrics")[1]:
                pass
            process.send_signal(signal.SIGINT)
            refused(port)
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=PATIENCE)[1] == "" and process.returncode == 128 + signal.SIGINT
    finally:
        process.kill()


def test_a_signal_before_uvicorn_listens_to_it_stops_the_server():
    former = {number: signal.getsignal(number) for number in HANDLED_SIGNALS}
    for number in former:
        server = Server(configuration(None, Limits()))
        with stopped_by_signals(server):
            signal.raise_signal(number)
        assert server.should_exit
    assert former == {number: signal.getsignal(number) for number in former}


def refused(port: int) -> None:
    """Waits until the port accepts no connection."""
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
        except ConnectionError:
            return


def test_a_model_that_fails_to_load_ends_the_command(command, tmp_path):
    (tmp_path / "damaged.pth").write_bytes(b"damaged")
    for name, words in (("damaged.pth", "damaged.pth"), ("none.pth", "no such file")):
        done = command("serve", name, "--port", 0, "--device", "cpu")
        assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith("resdet: ") and words in done.stderr


def test_the_socket_uses_tcp_explicitly():
    """Checks the protocol of the socket, since asyncio sets TCP_NODELAY only for IPPROTO_TCP."""
    with resdet.serve.server.bind("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP


@pytest.mark.parametrize("platform, reused", [("linux", True), ("darwin", True), ("win32", False)])
def test_the_port_of_a_stopped_server_is_free_immediately(monkeypatch, platform, reused):
    """Checks the option, which would let two servers share a port on Windows."""
    monkeypatch.setattr("resdet.system.sys.platform", platform)
    with resdet.serve.server.bind("127.0.0.1", 0) as listening:
        assert bool(listening.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)) is reused


def test_an_ipv6_address(serve):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6")
    with resdet.serve.server.bind("::1", 0) as listening:
        assert listening.family == socket.AF_INET6


def test_a_used_port_is_reported(command, checkpoint):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = command("serve", checkpoint, "--port", taken.getsockname()[1])
    assert done.returncode == 2 and "another --host or --port" in done.stderr


def test_an_invalid_port_is_reported():
    with pytest.raises(resdet.Error, match="Cannot listen at 127.0.0.1:70000"):
        resdet.serve.server.bind("127.0.0.1", 70_000)


def test_responses_have_no_server_header(serve):
    with listening(serve().app) as url:
        answer = exchange(url, b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200") and b"\nserver:" not in answer.lower()


@pytest.mark.parametrize("module", ["starlette", "uvicorn", "python_multipart"])
def test_missing_packages_are_reported(command, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    done = command("serve", "best.pth")
    assert done.returncode == 2 and "pip install 'resdet[serve]'" in done.stderr


@pytest.mark.parametrize("words", [["--queue", "0"], ["--timeout", "-1"], ["--max-mb", "nan"], ["--workers", "0"]])
def test_invalid_limits_are_rejected(command, words):
    done = command("serve", "best.pth", *words)
    assert done.returncode == 2 and f"argument {words[0]}: {words[1]} is not a" in done.stderr


def test_default_limits_of_the_command_are_those_of_the_server(command, monkeypatch):
    given = []
    monkeypatch.setattr("resdet.commands.serve.serve", lambda words, limits, *_, **__: given.append(limits) or 0)
    assert command("serve", "best.pth").returncode == 0 and given == [Limits()]


def test_several_processes_need_a_fixed_port(command):
    done = command("serve", "best.pth", "--workers", "2", "--port", "0")
    assert done.returncode == 2 and "give the first of them" in done.stderr


def test_visible_gpus_are_read_from_the_environment(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5a")
    assert visible_gpus() == ["3", "GPU-5a"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []


def test_an_empty_token_is_rejected(command, monkeypatch):
    monkeypatch.setenv("RESDET_SERVE_TOKEN", "")
    done = command("serve", "best.pth")
    assert done.returncode == 2 and "The token is empty" in done.stderr


def test_the_url_of_an_ipv6_address_has_brackets():
    assert resdet.serve.server.url_of("::1", 80) == "http://[::1]:80"
    assert resdet.serve.server.url_of("localhost", 80) == "http://localhost:80"
