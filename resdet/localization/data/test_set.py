"""ILSVRC's test images, without public ground truth."""

from resdet.classification.data.imagenet import imagenet
from resdet.images.decode import EncodedImage, EncodedSource


def localization_test(root: str) -> "StoredImages":
    """Opens the test images of ILSVRC's classification and localization task."""
    return StoredImages(imagenet(root, "test"))


class StoredImages:
    """Images without EXIF orientation, as they were annotated for the test server."""

    def __init__(self, source: EncodedSource):
        self.source, self.labels, self.classes, self.name = source, source.labels, source.classes, source.name

    def __len__(self) -> int:
        return len(self.source)

    def image(self, i: int) -> EncodedImage:
        return self.source.image(i).as_stored()

    def header_size(self, i: int) -> tuple[int, int]:
        return self.image(i).size
