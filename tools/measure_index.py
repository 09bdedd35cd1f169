"""Measures time and peak memory of building and opening the index of a large generated COCO file.

    python tools/measure_index.py --images 10_000_000 --folder /tmp/index [--objects 1] [--points 0] [--json FILE]

By default, each image has one object without a mask, about 200 bytes in total; `--objects` and `--points` set the
number of objects per image and of polygon points per object. The folder must be new and is removed at the end.
"""

import argparse
import multiprocessing
import shutil
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from resdet.files.atomic import write_json  # noqa: E402
from resdet.system import peak_memory  # noqa: E402

CATEGORIES = 80
BLOCK = 10_000  # entries formatted at a time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--objects", type=int, default=1, help="of each image")
    parser.add_argument("--points", type=int, default=0, help="of the polygon of each object; 0: no polygons")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parsed = parser.parse_args()
    parsed.folder.mkdir(parents=True)
    try:
        file = parsed.folder / "annotations.json"
        objects = parsed.images * parsed.objects
        write(file, parsed.images, objects, parsed.points)
        result: dict[str, Any] = {"images": parsed.images, "objects": objects, "points": parsed.points}
        result["bytes"] = file.stat().st_size
        for name in ("build", "open"):
            result[name] = in_child(file)
        result["index_bytes"] = sum(path.stat().st_size for path in parsed.folder.rglob("*.npy"))
    finally:
        shutil.rmtree(parsed.folder)
    write_json(parsed.json, result)
    print(result)


def write(file: Path, images: int, objects: int, points: int) -> None:
    """Writes images and annotations; as in COCO's files, the annotations are not in the order of the images."""
    with open(file, "w") as out:
        out.write('{"info": {"year": 2026}, "images": [')
        for start in range(0, images, BLOCK):
            rows = range(start, min(start + BLOCK, images))
            entries = (
                f'{{"id": {i + 1}, "file_name": "{i % 1000:03d}/{i:012d}.jpg", "width": 640, "height": 480}}'
                for i in rows
            )
            out.write((", " if start else "") + ", ".join(entries))
        out.write('], "annotations": [')
        for start in range(0, objects, BLOCK):
            rows = range(start, min(start + BLOCK, objects))
            entries = (
                f'{{"id": {i + 1}, "image_id": {i * 7919 % images + 1}, "category_id": {i % CATEGORIES + 1}, '
                f'"bbox": [{i % 300}.5, {i % 200}.25, {i % 90 + 10}.75, {i % 80 + 10}.5], '
                f'"area": 1200.5, "iscrowd": 0{segmentation(i, points)}}}'
                for i in rows
            )
            out.write((", " if start else "") + ", ".join(entries))
        names = (f'{{"id": {i + 1}, "name": "class {i + 1}"}}' for i in range(CATEGORIES))
        out.write(f'], "categories": [{", ".join(names)}]}}')


def segmentation(i: int, points: int) -> str:
    """Returns a polygon inside the box of object i, with two decimals, as in COCO's files."""
    if not points:
        return ""
    corners = (f"{i % 300 + 5 + k % 7}.{i % 90 + 10}, {i % 200 + k % 11}.{k % 90 + 10}" for k in range(points))
    return f', "segmentation": [[{", ".join(corners)}]]'


def in_child(file: Path) -> dict[str, float]:
    """Measures time and peak memory of opening the file in a new process."""
    receive, send = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("spawn").Process(target=measure, args=(file, send))
    child.start()
    send.close()
    result = receive.recv()
    child.join()
    return result


def measure(file: Path, send: Any) -> None:
    from resdet.detection.data.coco import open_coco

    idle, start = peak_memory() or 0, time.perf_counter()
    source = open_coco(file, file.parent)
    seconds = time.perf_counter() - start
    send.send(
        {"images": len(source), "seconds": seconds, "peak_mb": (peak_memory() or 0) / 2**20, "idle_mb": idle / 2**20}
    )


if __name__ == "__main__":
    main()
