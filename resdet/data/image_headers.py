"""A check of all image headers of a data set, before anything is spent on it."""

from concurrent.futures import ThreadPoolExecutor

from resdet.errors import DataError
from resdet.images.decode import Source

WORKERS = 16  # threads that wait for the disk more than they compute


def check_headers(source: Source, workers: int = WORKERS) -> dict[int, str]:
    """Index -> what is wrong with the image, for those that are missing, cut short, no images, or of another size than
    their annotations say. Pixels are not decoded."""

    def problem(i: int) -> str | None:
        try:
            source.header_size(i)
        except DataError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(workers) as pool:
        problems = enumerate(pool.map(problem, range(len(source))))
        return {i: sentence for i, sentence in problems if sentence}
