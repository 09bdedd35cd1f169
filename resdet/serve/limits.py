"""Limits of the server, and the error of a request that exceeds one."""

from dataclasses import dataclass

from resdet.errors import Error, require

CLIENT_LEFT = 499  # status of a request whose client has disconnected, in metrics and log; nginx has the same


@dataclass(frozen=True)
class Limits:
    """The limits of requests, and the settings of batches; times in seconds."""

    max_batch: int = 8  # images that a net predicts together
    max_wait: float = 0.005  # that an image waits for others to share its batch
    queue: int = 64  # images of a model that are read, decoded, waiting or predicted; 503 above
    timeout: float = 30.0  # from the last byte of a request to its results; 504 after
    body_timeout: float = 10.0  # from the first byte of a body to the last, and for the headers; 408 after
    max_bytes: int = 32 * 2**20  # of a body; 413 above
    max_pixels: int = 50_000_000  # of an image, as its header declares; 413 above
    max_images: int = 32  # of a request; 400 above

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            require(value > 0 or (name == "max_wait" and value == 0), name, value, "give a number above 0")

    @property
    def form_images(self) -> int:
        """The most images of a form: the queue would refuse more at each retry."""
        return min(self.max_images, self.queue)


class Refused(Error):
    """A request that gets a response other than 200, with this sentence as `error`."""

    def __init__(self, status: int, sentence: str, **headers: str):
        """`headers`: names with underscores for hyphens."""
        super().__init__(sentence)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
