"""Validates all image headers of a data set before training."""

from resdet.errors import DataError
from resdet.images.decode import Source
from resdet.threads import WORKERS, map_in_threads


def check_headers(source: Source, workers: int = WORKERS) -> dict[int, DataError]:
    """Returns {index: error} of images that are missing, truncated, invalid, or of another size than annotated.

    Pixels are not decoded.
    """

    def problem(i: int) -> DataError | None:
        try:
            source.header_size(i)
        except DataError as error:
            return error
        return None

    problems = map_in_threads(problem, range(len(source)), "reading image headers", workers)
    return {i: error for i, error in enumerate(problems) if error}
