"""Open Images' format: a CSV file of boxes relative to the image size, with class codes; FiftyOne exports it, too."""

from typing import Any

from resdet.detection.formats.collector import Collector, number_in, read_text
from resdet.detection.formats.csv_table import header
from resdet.detection.formats.folder import Folder, split_in, split_of
from resdet.detection.formats.layout import Layout, Split, Unfit

COLUMNS = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax")
DESCRIPTIONS = ("class-descriptions", "classes.csv", "class_descriptions")  # in names of files of codes and class names


class OpenImages:
    def recognize(self, folder: Folder) -> Layout | Unfit:
        candidates = folder.having(".csv")
        files = [file for file in candidates if set(COLUMNS) <= set(header(folder, file).columns)]
        if not files:
            return Unfit("no CSV file with the columns ImageID, LabelName and XMin", 0)
        splits: dict[str, list[str]] = {}
        for file in files:
            splits.setdefault(split_of(file.rpartition("/")[2]) or split_in(file) or "train", []).append(file)
        described = tuple(_descriptions(folder))
        contents = {
            split: Split(tuple(names), annotated=len(folder.images) // len(splits)) for split, names in splits.items()
        }
        return Layout("openimages", folder, contents, ", ".join([*files, *described]), shared=described)

    def read(self, layout: Layout, split: str, collector: Collector) -> dict[str, Any]:
        """Reads the rows of existing images; the files list the whole data set."""
        folder, names = layout.folder, _names(layout)
        rows: list[tuple[str, str, str, list[float], bool]] = []
        absent = []
        for file in layout.splits[split].annotations:
            for number, row in header(folder, file).rows(folder):
                image, place = folder.locate(row.get("ImageID", ""), file, split), f"{file}:{number}"
                if image is None:
                    absent.append(place)
                    continue
                box = [number_in(row.get(key)) for key in ("XMin", "YMin", "XMax", "YMax")]
                label = row.get("LabelName", "")
                rows.append((place, image, names.get(label, label), box, row.get("IsGroupOf") == "1"))
        images = list(dict.fromkeys(image for _, image, *_ in rows))
        sizes = dict(zip(images, collector.measured.sizes_of(images)))
        for place, image, name, box, crowd in rows:
            number, size = collector.add_image(image, sizes[image]), sizes[image] or (0, 0)
            pixels = [side * size[k % 2] for k, side in enumerate(box)]
            collector.add_object(number, name, pixels, place, iscrowd=int(crowd))
        collector.problems.note("box", absent, "an image that is not there", "left out")
        return collector.content()


def _descriptions(folder: Folder) -> list[str]:
    return [file for file in folder.having(".csv") if any(part in file for part in DESCRIPTIONS)]


def _names(layout: Layout) -> dict[str, str]:
    """Reads class names by code, from files with two columns and no header."""
    lines = [line for file in layout.shared for line in read_text(layout.folder, file).splitlines()]
    pairs = [line.split(",", 1) for line in lines if "," in line]
    return {code.strip(): name.strip().strip('"') for code, name in pairs}
