"""Image files at addresses: http(s) URLs, and file systems of fsspec such as s3://."""

from http.client import HTTPException
from pathlib import Path, PurePosixPath

from resdet.errors import DataError, DownloadError
from resdet.files import download, storage
from resdet.images.image_files import is_image

WEB = ("http://", "https://")
STREAMS = ("rtsp://", "rtsps://", "rtmp://", "udp://", "tcp://", "srt://")  # video streams, whatever their suffix
LARGEST = 2**28  # bytes


def is_image_address(name: str | Path) -> bool:
    """Whether a name is the address of a single image: its path has the suffix of an image file."""
    address = str(name)
    return storage.is_address(address) and not address.startswith(STREAMS) and is_image(path_of(address))


def path_of(address: str) -> str:
    """Returns the host and path of an address, without the query; in a file system, names may contain ? and #."""
    path = address.partition("://")[2]
    return path if is_image(path) and not address.startswith(WEB) else path.partition("?")[0].partition("#")[0]


def stem_of(name: str | Path) -> str:
    """Returns the name of an image file without its folder and suffix."""
    return PurePosixPath(path_of(name)).stem if isinstance(name, str) and is_image_address(name) else Path(name).stem


def read_address(address: str) -> bytes:
    """Returns the encoded image; raises a DataError if it cannot be read."""
    try:
        return download.read(address, LARGEST) if address.startswith(WEB) else storage.fetch(address)
    except (OSError, HTTPException, ValueError, DownloadError) as error:
        raise DataError(f"{address} cannot be read ({error}): check the address and the network.") from error
