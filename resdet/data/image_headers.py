"""Validates all image headers of a data set before training."""

from concurrent.futures import ThreadPoolExecutor

from resdet.errors import DataError
from resdet.images.decode import Source
from resdet.progress import track

WORKERS = 16  # threads, mostly waiting for the disk


def check_headers(source: Source, workers: int = WORKERS) -> dict[int, str]:
    """{index: error message} of the images that are missing, truncated, no images, or of another size than annotated.

    Pixels are not decoded.
    """

    def problem(i: int) -> str | None:
        try:
            source.header_size(i)
        except DataError as error:
            return str(error.in_data_set())
        return None

    with ThreadPoolExecutor(workers) as pool:
        problems = track(pool.map(problem, range(len(source))), "reading image headers", len(source))
        return {i: sentence for i, sentence in enumerate(problems) if sentence}
