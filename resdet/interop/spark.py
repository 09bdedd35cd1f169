"""Prediction on Spark DataFrames of images, with one row of results per image."""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from resdet.batch_inference.images import InMemory
from resdet.batch_inference.program import Loaded, Program
from resdet.engine.distributed import choose_device
from resdet.optional import required
from resdet.results.parquet import schema, table_of

if TYPE_CHECKING:
    import pyarrow


def map_images(
    frame: Any, weights: str | Sequence[str], *, image: str = "content", name: str = "path", **options: Any
) -> Any:
    """Predicts on a Spark DataFrame of images: one row per image, with the columns of `resdet predict --parquet`.

    `image`: the column of encoded images; `name`: the column that becomes `image` in the results; the defaults are the
    columns of Spark's reader `binaryFile`. `options`: score, top, classes, overrides, classifiers, mode and compile of
    `resdet predict`. Each of Spark's Python workers loads the models once.
    """
    types = required("pyspark.sql.pandas.types", "pyspark", "resdet.interop.spark")
    hashable: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in options.items()}
    program = Program((weights,) if isinstance(weights, str) else tuple(weights), **hashable)
    columns = types.from_arrow_schema(schema())
    return frame.select(name, image).mapInArrow(Mapper(program), columns)


class Mapper:
    """The function that Spark's workers call with the batches of a partition (names and images)."""

    def __init__(self, program: Program):
        self.program = program

    def __call__(self, batches: Iterable["pyarrow.RecordBatch"]) -> Iterator["pyarrow.RecordBatch"]:
        loaded = load(self.program)
        for batch in batches:
            names, contents = (batch.column(k).to_pylist() for k in range(2))
            images = [InMemory(str(name), content) for name, content in zip(names, contents)]
            yield from table_of(list(loaded.rows(images))).to_batches()


@lru_cache(1)
def load(program: Program) -> Loaded:
    return program.load(choose_device("auto"))
