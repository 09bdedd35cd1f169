"""Results as Parquet, one row per image; docs/detection.md describes the columns."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from resdet.errors import DataError
from resdet.files.atomic import write_atomically
from resdet.optional import required

if TYPE_CHECKING:
    import pyarrow

    from resdet.results.classification import Classification
    from resdet.results.result import Result

VERSION = 1  # version of the columns; changes with their names, types or meaning
KEY = b"resdet"  # key in the file metadata
MANIFEST = "_manifest.json"  # manifest of a folder of parts; Parquet readers skip names with _
ROWS = 256  # rows per row group, which a writer holds in memory
Row: TypeAlias = dict[str, Any]


def arrow() -> Any:
    return required("pyarrow", "pyarrow", "Parquet")


def schema() -> "pyarrow.Schema":
    """Returns the columns, with their version as JSON in the metadata."""
    pa = arrow()
    texts, numbers = pa.list_(pa.string()), pa.list_(pa.float32())
    mask = pa.struct([("size", pa.list_(pa.int32())), ("counts", pa.string())])
    columns = {
        "image": pa.string(),
        "width": pa.int32(),
        "height": pa.int32(),
        "scores": numbers,
        "labels": pa.list_(pa.int32()),
        "names": texts,
        "category_ids": pa.list_(pa.int64()),
        "boxes": pa.list_(numbers),
        "masks": pa.list_(mask),
        "keypoints": pa.list_(pa.list_(numbers)),
        "keypoint_names": texts,
        "error": pa.string(),
    }
    return pa.schema(list(columns.items()), {KEY: json.dumps({"version": VERSION}).encode()})


def row_of_result(image: str, result: "Result") -> Row:
    """Returns the row of a detector's or localizer's result."""
    return {
        **common(image, result.size, result),
        "category_ids": result.category_ids.tolist(),
        "boxes": result.boxes.tolist(),
        "masks": result.rles,
        "keypoints": None if result.keypoints is None else result.keypoints.tolist(),
        "keypoint_names": None if result.keypoints is None else result.keypoint_names,
    }


def common(image: str, size: tuple[int, int], result: "Result | Classification") -> Row:
    """Returns the columns that all models share, which are all of a classifier's; `size`: height and width."""
    return {
        "image": image,
        "width": size[1],
        "height": size[0],
        "scores": result.scores.tolist(),
        "labels": result.labels.tolist(),
        "names": result.names,
    }


def row_of_error(image: str, error: Exception) -> Row:
    """Returns the row of an unreadable image."""
    return {"image": image, "error": str(error)}


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Writes a file atomically, holding one row group in memory."""
    pq = required("pyarrow.parquet", "pyarrow", "Parquet")
    columns = schema()

    def write(temporary: Path) -> None:
        with pq.ParquetWriter(temporary, columns, compression="zstd") as writer:
            for group in groups(rows):
                writer.write_table(table_of(group))

    write_atomically(path, write)


def table_of(rows: Sequence[Row]) -> "pyarrow.Table":
    """Converts rows to an Arrow table; missing columns are null."""
    return arrow().Table.from_pylist(rows, schema=schema())


def groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    rows = iter(rows)
    while group := list(islice(rows, ROWS)):
        yield group


def read_batches(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> Iterator["pyarrow.RecordBatch"]:
    """Yields columns of a results file, at most a row group at a time; `optional` ones only if the file has them."""
    pq, pa = required("pyarrow.parquet", "pyarrow", "Parquet"), arrow()
    try:
        with pq.ParquetFile(path) as file:
            present = file.schema_arrow.names
            check_schema(path, present, file.schema_arrow.metadata or {}, columns)
            yield from file.iter_batches(ROWS, columns=[*columns, *(name for name in optional if name in present)])
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} is not a readable Parquet file ({error}): write it again.") from error


def check_schema(path: Path, names: Sequence[str], metadata: Mapping[bytes, bytes], columns: Sequence[str]) -> None:
    missing = [name for name in columns if name not in names]
    if missing:
        raise DataError(f"{path} has no column {missing[0]}: give results of resdet predict --parquet.")
    version = json.loads(metadata[KEY])["version"] if KEY in metadata else VERSION
    if version != VERSION:
        raise DataError(f"{path} has version {version} of the columns, this resdet reads {VERSION}: predict again.")
