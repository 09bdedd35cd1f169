"""Handling of prediction requests, from the body to the bytes of the response."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from resdet.errors import DataError
from resdet.images.decode import EncodedImage
from resdet.serve.formats import FORMATS
from resdet.serve.limits import CLIENT_LEFT, Limits, Refused
from resdet.serve.metrics import Metrics
from resdet.serve.models import Loaded, Models, ServedModel
from resdet.serve.query import Query, read_query
from resdet.serve.uploads import check_header, read_uploads, unusable
from resdet.serve.worker import Item


class Predictions:
    """Handles prediction requests; decodes images and encodes results in the threads of `pool`."""

    def __init__(self, models: Models, limits: Limits, metrics: Metrics, pool: ThreadPoolExecutor):
        self.models, self.limits, self.metrics, self.pool = models, limits, metrics, pool

    async def respond(self, request: Request) -> Response:
        start = time.monotonic()
        query = read_query(request.query_params)
        served = self.models.get(request.query_params.get("model"))
        loaded = served.require()
        query = query.check(served.name, loaded)
        with served.slots() as admit:
            images = await read_uploads(request, self.limits, admit)
            predicting = asyncio.ensure_future(self.predict(served, loaded, images, query))
            left = asyncio.ensure_future(request.receive())  # done when the client disconnects
            left.add_done_callback(lambda _: predicting.cancel())
            try:
                response = await asyncio.wait_for(predicting, self.limits.timeout)
            except asyncio.TimeoutError:
                sentence = f"{served.name} did not answer within {self.limits.timeout:g} seconds: try again later."
                raise Refused(504, sentence) from None
            except asyncio.CancelledError:
                if not left.done():
                    raise
                raise Refused(CLIENT_LEFT, "The client disconnected before its results.") from None
            finally:
                left.cancel()
        self.metrics.observe("resdet_request_seconds", time.monotonic() - start, model=served.name)
        return response

    async def predict(
        self, served: ServedModel, loaded: Loaded, images: Sequence[EncodedImage], query: Query
    ) -> Response:
        run, chosen = asyncio.get_running_loop().run_in_executor, FORMATS[query.format]
        items = await all_of(run(self.pool, self.prepare, loaded, image, query) for image in images)
        for item in items:
            served.worker.submit(item)
        results = await all_of(asyncio.wrap_future(item.result) for item in items)
        body, encoded = await run(self.pool, timed, chosen.encode, served.name, results, images)
        seconds = self.observe(served.name, items, encoded)
        return Response(body, media_type=chosen.media_type, headers={"Server-Timing": server_timing(seconds)})

    def prepare(self, loaded: Loaded, image: EncodedImage, query: Query) -> Item:
        """Decodes and resizes an image."""
        start = time.monotonic()
        check_header(image, self.limits)
        try:
            prepared = loaded.predictor.prepare_image(image)
        except DataError as error:
            raise unusable(error) from None
        return Item(loaded.predictor, prepared, query.score, query.top, decoded=time.monotonic() - start)

    def observe(self, model: str, items: Sequence[Item], encoded: float) -> dict[str, float]:
        """Records the seconds of each stage; returns the times of the slowest image."""
        stages = {
            "decode": [item.decoded for item in items],
            "queue": [item.queued for item in items],
            "net": [item.predicted for item in items],
            "encode": [encoded],
        }
        for stage, values in stages.items():
            for seconds in values:
                self.metrics.observe("resdet_stage_seconds", seconds, model=model, stage=stage)
        return {stage: max(values) for stage, values in stages.items()}


def timed(function: Callable[..., Any], *given: Any) -> tuple[Any, float]:
    """Returns the result of a call and its seconds, excluding the wait for a thread."""
    start = time.monotonic()
    return function(*given), time.monotonic() - start


async def all_of(awaitables: Iterable[Awaitable[Any]]) -> list[Any]:
    """Returns the results in order; the first error cancels the others."""
    futures = [asyncio.ensure_future(each) for each in awaitables]
    try:
        return await asyncio.gather(*futures)
    finally:
        for future in futures:
            future.cancel()


def server_timing(seconds: Mapping[str, float]) -> str:
    """Formats the header Server-Timing, in milliseconds."""
    return ", ".join(f"{stage};dur={1000 * value:.1f}" for stage, value in seconds.items())
