"""Classification data as shards: see resdet.data.shards."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from resdet.data import output_folder
from resdet.data.array_cache import Arrays, Strings, cached
from resdet.data.folder import ImageFolder
from resdet.data.shards import Limit, Sample, Shard, read_index, suffix_of, write_index, write_shards
from resdet.data.tar_index import TarImages
from resdet.errors import DataError
from resdet.files.remote import INDEX
from resdet.images.decode import EncodedSource

POSITIONS = "index.npz"
COLUMNS = {"shard": np.int32, "offset": np.int64, "size": np.int64, "crc": np.int64}


def is_sharded(folder: Path) -> bool:
    return (folder / INDEX).is_file()


def has_shards(folder: Path) -> bool:
    """Whether a folder has shards written by resdet, or tar files written by another program."""
    return is_sharded(folder) or any(folder.glob("*.tar"))


def open_shards(folder: Path) -> TarImages:
    """Opens the images of a split written by `resdet data shard`, in the order of the original data set."""
    index = read_index(folder, "classification")
    side = folder / index["side"]["url"]
    paths = [folder / shard["url"] for shard in index["shardlist"]]
    return TarImages.of_index(paths, cached("shards", [side], lambda: _positions(side)), index["classes"])


def open_folder(root: Path, split: str, train: str) -> EncodedSource:
    """Opens the images of root/split: shards, tar files of another program, or a folder per class; with the classes of
    root/train if it exists."""
    folder = root / split
    if not folder.is_dir():
        key = "data.train" if split == train else "data.val"
        raise DataError(f"{folder} is missing: put images of each class there, or check data.root and {key}.")
    if is_sharded(folder):
        return open_shards(folder)
    alone = split == train or not (root / train).is_dir()
    classes = None if alone else open_folder(root, train, train).classes
    tars = sorted(folder.glob("*.tar"))
    return TarImages(tars, classes) if tars else ImageFolder(folder, classes)


def shard_images(root: Path, sources: Mapping[str, EncodedSource], limit: Limit) -> dict[str, list[Shard]]:
    """Writes the splits to the new folder `root`."""
    written: dict[str, list[Shard]] = {}

    def write(folder: Path) -> None:
        for split, source in sources.items():
            written[split] = _write_split(folder / split, source, limit)

    output_folder.refuse_filled(root)
    output_folder.create(root, write)
    return written


def _write_split(folder: Path, source: EncodedSource, limit: Limit) -> list[Shard]:
    sizes = np.zeros((len(source), 2), np.int64)

    def sample(i: int) -> Sample:
        image = source.image(i)
        sizes[i] = image.size
        return Sample(bytes(image.data), suffix_of(source.name(i)), (".cls", str(int(source.labels[i])).encode()))

    shards = write_shards(folder, len(source), sample, limit)
    with open(folder / POSITIONS, "wb") as file:
        np.savez(file, **_index(shards, source.labels, sizes))  # type: ignore[arg-type]
    write_index(folder, shards, folder / POSITIONS, "classification", source.classes)
    return shards


def _index(shards: Sequence[Shard], labels: np.ndarray, sizes: np.ndarray) -> Arrays:
    rows = {i: (k, *member.place) for k, shard in enumerate(shards) for i, member in shard.members.items()}
    table = np.array([rows[i] for i in range(len(labels))], np.int64).reshape(-1, len(COLUMNS))
    names = {i: member.name for shard in shards for i, member in shard.members.items()}
    return {
        **{name: table[:, k].astype(kind) for k, (name, kind) in enumerate(COLUMNS.items())},
        "label": labels.astype(np.int64),
        "width": sizes[:, 0],
        "height": sizes[:, 1],
        **Strings.pack(names[i] for i in range(len(labels))).arrays("names"),
        **Strings.pack([]).arrays("classes"),
    }


def _positions(file: Path) -> Arrays:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{file} is damaged ({error}): write the shards again.") from error
