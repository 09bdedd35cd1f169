"""Tests the queue of a model: batches, failures, limits, and canceled requests."""

import asyncio
import gc
import logging
import time
import weakref
from concurrent.futures import wait

import pytest
from serve.serving import PATIENCE, StandIn, form, picture

from resdet.model import Prepared
from resdet.serve.limits import Limits, Refused
from resdet.serve.metrics import Metrics
from resdet.serve.worker import DEVICE, Item, Worker

LONG = 3600.0  # seconds


@pytest.fixture
def start():
    """Returns a function that starts workers with the given limits."""
    workers = []

    def start(admitted: int = 0, **limits) -> Worker:
        workers.append(Worker("boxes", Limits(**limits), Metrics()))
        workers[-1].admitted = admitted
        workers[-1].start()
        return workers[-1]

    yield start
    for worker in workers:
        worker.stop()
        worker.join(PATIENCE)
        assert not worker.is_alive()


def item(predictor, number=0, shape=None, score=None) -> Item:
    return Item(predictor, Prepared(shape, None, (10, 10 + number)), score, None)


def test_a_full_batch_does_not_wait(start):
    stand_in, worker = StandIn(), start(8, max_batch=4, max_wait=LONG)
    items = [item(stand_in, number) for number in range(8)]
    for each in items:
        worker.submit(each)
    assert [each.result.result(PATIENCE).size for each in items] == [(10, 10 + number) for number in range(8)]
    assert [len(batch) for batch in stand_in.batches] == [4, 4]


def test_images_that_arrive_during_a_batch_share_the_next_one(start):
    stand_in, worker = StandIn(), start(max_batch=8, max_wait=0)
    stand_in.go_on.clear()
    items = [item(stand_in, number) for number in range(6)]
    worker.submit(items[0])
    assert stand_in.started.wait(PATIENCE)
    for each in items[1:]:
        worker.submit(each)
    stand_in.go_on.set()
    wait([each.result for each in items], PATIENCE)
    assert [len(batch) for batch in stand_in.batches] == [1, 5]


def test_an_incomplete_batch_runs_after_max_wait(start):
    stand_in, worker = StandIn(), start(2, max_batch=8, max_wait=0.01)
    alone = item(stand_in)
    worker.submit(alone)
    assert alone.result.result(PATIENCE) and stand_in.batches == [[(10, 10)]]
    assert alone.queued >= 0.01


def test_a_batch_of_all_admitted_images_does_not_wait(start):
    stand_in, worker = StandIn(), start(2, max_batch=8, max_wait=LONG)
    items = [item(stand_in, number) for number in range(2)]
    for each in items:
        worker.submit(each)
    wait([each.result for each in items], PATIENCE)
    assert stand_in.batches == [[(10, 10), (10, 11)]]


def test_an_image_does_not_wait_if_all_admitted_ones_are_in_the_queue_in_other_groups_too(start):
    stand_in, worker = StandIn(), start(2, max_batch=8, max_wait=LONG)
    items = [item(stand_in, 0, "tall"), item(stand_in, 1, "wide")]
    for each in items:
        worker.submit(each)
    assert items[0].result.result(PATIENCE)


@pytest.mark.parametrize("ages, due", [((1.5 * LONG, 0), True), ((0.5 * LONG, 0), False)])
def test_the_oldest_image_decides_on_a_wait(ages, due):
    worker = Worker("boxes", Limits(max_batch=8, max_wait=LONG), Metrics())
    worker.admitted = 3
    worker.items = [item(StandIn(), number) for number in range(2)]
    for each, age in zip(worker.items, ages):
        each.arrived = time.monotonic() - age
    assert worker.is_due(worker.items) is due


def test_shapes_predictors_and_default_scores_are_not_mixed(start):
    first, second, worker = StandIn(), StandIn(), start(max_batch=8, max_wait=0)
    first.go_on.clear()
    items = [item(first, 0), item(first, 1, "wide"), item(second, 2), item(first, 3, "wide"), item(first, 4, score=0.5)]
    for each in items:
        worker.submit(each)
    assert first.started.wait(PATIENCE)
    first.go_on.set()
    wait([each.result for each in items], PATIENCE)
    batches = [*first.batches, *second.batches]
    assert sorted(map(len, batches)) == [1, 1, 1, 2] and [(10, 11), (10, 13)] in batches


def test_an_image_that_fails_does_not_fail_its_batch(start):
    stand_in, worker = StandIn(), start(9, max_batch=3, max_wait=LONG)
    stand_in.failing = {(10, 11)}
    items = [item(stand_in, number) for number in range(3)]
    for each in items:
        worker.submit(each)
    assert items[0].result.result(PATIENCE) and items[2].result.result(PATIENCE)
    with pytest.raises(Refused, match="the server's log"):
        items[1].result.result(PATIENCE)
    last = [item(stand_in, number) for number in range(4, 7)]
    for each in last:
        worker.submit(each)
    assert all(each.result.result(PATIENCE) for each in last)


def test_canceled_images_are_neither_predicted_nor_take_a_place(start):
    stand_in, worker = StandIn(), start(max_batch=2, max_wait=0)
    stand_in.go_on.clear()
    items = [item(stand_in, number) for number in range(4)]
    worker.submit(items[0])
    assert stand_in.started.wait(PATIENCE)
    for each in items[1:]:
        worker.submit(each)
    assert items[1].result.cancel()
    stand_in.go_on.set()
    items[3].result.result(PATIENCE)
    assert stand_in.batches == [[(10, 10)], [(10, 12), (10, 13)]]


def test_an_image_that_is_canceled_while_it_is_predicted_does_not_end_the_thread(start):
    stand_in, worker = StandIn(), start(max_wait=0)
    stand_in.go_on.clear()
    first, second = item(stand_in, 0), item(stand_in, 1)
    worker.submit(first)
    assert stand_in.started.wait(PATIENCE)
    first.result.cancel()
    stand_in.go_on.set()
    worker.submit(second)
    assert second.result.result(PATIENCE)


def test_an_image_that_is_canceled_before_its_batch_starts_is_left_out():
    stand_in, worker = StandIn(), Worker("boxes", Limits(), Metrics())
    canceled, last = item(stand_in, 0), item(stand_in, 1)
    assert canceled.result.cancel()
    worker.predict([canceled, last])
    assert stand_in.batches == [[(10, 11)]] and last.result.done()


def test_an_image_that_is_canceled_while_its_batch_waits_for_another_model_is_left_out(start):
    stand_in, worker = StandIn(), start(max_wait=0)
    canceled, last = item(stand_in, 0), item(stand_in, 1)
    with DEVICE:
        worker.submit(canceled)
        while worker.items:
            time.sleep(0.01)
        worker.submit(last)
        assert canceled.result.cancel()
    last.result.result(PATIENCE)
    assert stand_in.batches == [[(10, 11)]]
    assert worker.metrics.counts["resdet_dropped_images_total", (("model", "boxes"),)] == 1


def test_the_group_of_the_oldest_image_is_first():
    worker, stand_in = Worker("boxes", Limits(max_wait=0), Metrics()), StandIn()
    tall, *wide = worker.items = [item(stand_in, 0, "tall"), item(stand_in, 1, "wide"), item(stand_in, 2, "wide")]
    assert worker.next_batch() == [tall] and worker.next_batch() == wide


def test_a_stopping_worker_predicts_its_queue(start):
    stand_in, worker = StandIn(), start(9, max_batch=8, max_wait=LONG)
    items = [item(stand_in, number) for number in range(3)]
    for each in items:
        worker.submit(each)
    worker.stop()
    worker.join(PATIENCE)
    assert all(each.result.done() for each in items)


def test_a_full_queue_rejects_requests(serve):
    """Checks also a form with more images than places left, and that all places are free afterwards."""
    stand_in = StandIn()
    server = serve(Limits(queue=3, max_wait=0), boxes=stand_in.loaded())
    body, kind = form([("a.png", picture())] * 2)
    stand_in.started.clear()
    stand_in.go_on.clear()

    async def overflow():
        post = lambda data, **headers: server.ask("POST", "/v1/predict", data, headers)
        first = [asyncio.create_task(post(picture())) for _ in range(2)]
        assert await asyncio.to_thread(stand_in.started.wait, PATIENCE)
        refused = [await post(body, content_type=kind)]
        first.append(asyncio.create_task(post(picture())))
        while server.models.get(None).worker.admitted < 3:
            await asyncio.sleep(0)
        refused.append(await post(picture()))
        shown = (await server.ask("GET", "/metrics")).body.decode()
        stand_in.go_on.set()
        return await asyncio.gather(*first), refused, shown

    answered, refused, shown = asyncio.run(overflow())
    assert [response.status for response in answered] == [200, 200, 200]
    for response in refused:
        assert response.status == 503 and response.headers["retry-after"] == "1" and "full" in response.json["error"]
    assert 'resdet_queue_images{model="boxes"} 3' in shown
    assert server.models.get(None).worker.admitted == 0


def test_a_slow_model_times_out(serve):
    stand_in = StandIn()
    server = serve(Limits(timeout=0.05, body_timeout=LONG), boxes=stand_in.loaded())
    stand_in.go_on.clear()
    response = server.post(picture())
    assert response.status == 504 and "0.05 seconds" in response.json["error"]
    assert server.models.get(None).worker.admitted == 0
    stand_in.go_on.set()


def test_a_failing_model(serve):
    """Checks that the error message is not sent and that the next request succeeds."""
    stand_in = StandIn()
    server = serve(boxes=stand_in.loaded())
    stand_in.failing = {(5, 6)}
    response = server.post(picture(5, 6))
    assert response.status == 500 and "memory" not in response.json["error"]
    assert server.post(picture()).status == 200


@pytest.mark.parametrize("size, status", [((4, 4), 200), ((5, 6), 500)])
@pytest.mark.parametrize("count", [1, 2])
def test_answered_images_take_no_memory(serve, monkeypatch, count, size, status):
    """Checks that images are freed without the garbage collector, which does not count the bytes of objects."""
    kept = []

    class Watched(StandIn):
        def prepare_image(self, image):
            prepared = super().prepare_image(image)
            kept.extend(map(weakref.ref, (image, prepared.content)))
            return prepared

    stand_in = Watched()
    server = serve(Limits(max_batch=count, max_wait=LONG), boxes=stand_in.loaded())
    stand_in.failing = {(5, 6)}
    monkeypatch.setattr("resdet.serve.worker.log", logging.Logger("silent"))  # pytest keeps records
    body, kind = form([("a.png", picture(*size))] * count)
    kept.clear()
    gc.disable()
    try:
        assert server.post(body, content_type=kind).status == status
        serve.stop()
        assert [alive() is None for alive in kept] == [True] * 2 * count
    finally:
        gc.enable()


def test_an_idle_worker_keeps_no_images(monkeypatch):
    worker, batches, kept = Worker("boxes", Limits(), Metrics()), [[item(StandIn())]], []
    alive = weakref.ref(batches[0][0])
    monkeypatch.setattr(worker, "next_batch", lambda: batches.pop() if batches else kept.append(alive()))
    worker.run()
    assert kept == [None]


def test_images_whose_clients_leave_are_neither_predicted_nor_take_a_place(serve):
    stand_in = StandIn()
    server = serve(Limits(max_wait=0), boxes=stand_in.loaded())
    queue = server.models.get(None).worker
    stand_in.batches.clear()
    stand_in.started.clear()
    stand_in.go_on.clear()

    async def leave():
        first = asyncio.create_task(server.ask("POST", "/v1/predict", picture(4, 4)))
        assert await asyncio.to_thread(stand_in.started.wait, PATIENCE)
        left = asyncio.Event()
        second = asyncio.create_task(server.ask("POST", "/v1/predict", picture(5, 5), left=left))
        while not queue.items:
            await asyncio.sleep(0)
        left.set()
        await second
        assert queue.admitted == 1
        stand_in.go_on.set()
        return [
            (await first).status,
            (await second).status,
            (await server.ask("POST", "/v1/predict", picture())).status,
        ]

    assert asyncio.run(leave()) == [200, 499, 200]
    assert stand_in.batches == [[(4, 4)], [(20, 30)]]
    shown = server.get("/metrics").body.decode()
    assert 'resdet_dropped_images_total{model="boxes"} 1' in shown
    assert 'resdet_requests_total{route="/v1/predict",status="499"} 1' in shown
