"""Reads tables in CSV files: the header, and rows as dicts."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass

from resdet.detection.formats.folder import Folder
from resdet.errors import DataError


@dataclass
class Table:
    """A CSV file with a header; the delimiter is the most frequent one of `,` `;` and tab in the header."""

    file: str
    columns: list[str]
    delimiter: str

    def rows(self, folder: Folder) -> Iterator[tuple[int, dict[str, str]]]:
        """Yields each line's number, from 2, and its fields by column; shorter rows lack the last columns."""
        try:
            with open(folder.root / self.file, encoding="utf-8-sig", newline="") as opened:
                reader = csv.reader(opened, delimiter=self.delimiter)
                next(reader, None)
                for row in reader:
                    if row:
                        yield reader.line_num, dict(zip(self.columns, (field.strip() for field in row)))
        except UnicodeDecodeError as error:
            raise DataError(f"{folder.root / self.file} is not in UTF-8: save it as 'CSV UTF-8'.") from error
        except (OSError, csv.Error) as error:
            raise DataError(f"{folder.root / self.file} is not a CSV file ({error}): write it again.") from error


def header(folder: Folder, file: str) -> Table:
    line = (folder.head(file).decode("utf-8-sig", "replace").splitlines() or [""])[0]
    delimiter = max(",;\t", key=line.count)
    try:
        columns = next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        columns = []
    return Table(file, [column.strip() for column in columns], delimiter)
