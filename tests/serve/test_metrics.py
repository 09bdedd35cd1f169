"""Tests that the metrics are valid Prometheus text and count requests, stages and batches."""

import re

import pytest
from serve.serving import StandIn, form, picture

from resdet.serve.limits import Limits
from resdet.serve.metrics import COUNTERS, GAUGES, HISTOGRAMS, Metrics

SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\[\\"n])*",?)+)\})? (\S+)')
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')


def parse(text: str) -> dict[tuple, float]:
    """Returns the values by name and labels; checks that HELP and TYPE precede the samples of each family."""
    values, families = {}, {}
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("#"):
            _, word, name, rest = line.split(" ", 3)
            families.setdefault(name, {})[word] = rest
            continue
        name, labels, value = SAMPLE.fullmatch(line).groups()
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        kind = families[name if name in families else base]
        assert set(kind) == {"HELP", "TYPE"} and ((name != base) <= (kind["TYPE"] == "histogram"))
        key = (name, *sorted(LABEL.findall(labels or "")))
        assert key not in values
        values[key] = float(value)
    return values


def test_requests_stages_and_batches_are_counted(serve):
    server = serve(Limits(max_wait=0), boxes=StandIn().loaded())
    before = parse(server.get("/metrics").body.decode())
    assert not [key for key in before if key[0].startswith("resdet_stage")]
    body, kind = form([("a.png", picture())] * 2)
    assert server.post(body, content_type=kind).status == 200
    assert server.post(b"no").status == 422
    assert server.get("/hidden/secret").status == 404
    response = server.get("/metrics")
    values = parse(response.body.decode())
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    requests = {key[1:]: value for key, value in values.items() if key[0] == "resdet_requests_total"}
    assert requests == {
        (("route", "/metrics"), ("status", "200")): 1,
        (("route", "/v1/predict"), ("status", "200")): 1,
        (("route", "/v1/predict"), ("status", "422")): 1,
        (("route", "other"), ("status", "404")): 1,
    }
    model = ("model", "boxes")
    for stage, count in (("decode", 2), ("queue", 2), ("net", 2), ("encode", 1)):
        assert values["resdet_stage_seconds_count", model, ("stage", stage)] == count
    assert values["resdet_batch_images_sum", model] == 2
    assert values["resdet_request_seconds_count", model] == 1
    assert values["resdet_model_ready", model] == 1 and values["resdet_queue_images", model] == 0
    assert values[("resdet_in_flight_requests",)] == 1  # the request for the metrics


def test_histogram_buckets_are_cumulative():
    metrics = Metrics()
    for value in (1, 2, 2, 3, 64, 65):
        metrics.observe("resdet_batch_images", value, model="a")
    values = parse(metrics.text(dict.fromkeys(GAUGES, {})))
    buckets = {dict(key[1:])["le"]: value for key, value in values.items() if key[0] == "resdet_batch_images_bucket"}
    assert buckets == {"1": 1, "2": 3, "4": 4, "8": 4, "16": 4, "32": 4, "64": 5, "+Inf": 6}
    assert values["resdet_batch_images_sum", ("model", "a")] == 137


@pytest.mark.parametrize("name", ['quo"te', "back\\slash", "new\nline", "plain", "ü"])
def test_labels_are_escaped(name):
    metrics = Metrics()
    metrics.count("resdet_reloads_total", model=name, result="loaded")
    ((_, (_, written), _),) = parse(metrics.text(dict.fromkeys(GAUGES, {})))
    assert re.sub(r"\\(.)", lambda match: {"n": "\n"}.get(match[1], match[1]), written) == name


def test_names_follow_the_conventions():
    for name in {**COUNTERS, **GAUGES, **HISTOGRAMS}:
        assert name.startswith("resdet_")
    assert all(name.endswith("_total") for name in COUNTERS)
