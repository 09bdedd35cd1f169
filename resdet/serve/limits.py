"""Limits of the server, and the error for requests that exceed them."""

from dataclasses import dataclass

from resdet.errors import Error, require

CLIENT_LEFT = 499  # status in metrics and log if the client has disconnected, as in nginx


@dataclass(frozen=True)
class Limits:
    """Limits of requests and settings of batches; times in seconds."""

    max_batch: int = 8  # maximum batch size of a net
    max_wait: float = 0.005  # maximum time that an image waits for others to share its batch
    queue: int = 64  # images per model that are read, decoded, waiting or predicted; 503 above
    timeout: float = 30.0  # from the last byte of a request to its results; 504 after
    body_timeout: float = 10.0  # for the headers, and from the first to the last byte of a body; 408 after
    max_bytes: int = 32 * 2**20  # size of a body; 413 above
    max_pixels: int = 50_000_000  # pixels per image, from its header; 413 above
    max_images: int = 32  # images per request; 400 above

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            require(value > 0 or (name == "max_wait" and value == 0), name, value, "give a number above 0")

    @property
    def form_images(self) -> int:
        """Maximum number of images in a form; with more than `queue`, every retry would fail."""
        return min(self.max_images, self.queue)


class Refused(Error):
    """Raised for a request that gets a status other than 200, with `sentence` as its `error`."""

    def __init__(self, status: int, sentence: str, **headers: str):
        """`headers`: by name, with underscores instead of hyphens."""
        super().__init__(sentence)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
