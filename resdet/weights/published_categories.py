"""Categories of published models whose files do not contain them, by the number of classes."""

from resdet.optional import torchvision
from resdet.weights import coco_classes
from resdet.weights.categories import Categories


def numbered(count: int) -> Categories:
    return Categories([str(label) for label in range(count)], list(range(1, count + 1)))


def imagenet(count: int) -> Categories:
    """Returns ImageNet's names for 1000 classes, else numbers."""
    if count != 1000:
        return numbered(count)
    return Categories(list(torchvision().models.ResNet50_Weights.IMAGENET1K_V1.meta["categories"]), list(range(1000)))


def torchvision_coco(count: int) -> Categories:
    """Returns COCO ids 1 to 90 for torchvision's 90 classes; the ten unused ids are named N/A."""
    if count != 90:
        return Categories([str(label) for label in range(1, count + 1)], list(range(1, count + 1)))
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights as weights

    return Categories(list(weights.COCO_V1.meta["categories"])[1:], list(range(1, 91)))


def coco(count: int) -> Categories:
    """Returns COCO's 80 classes in the order of their ids, else numbers."""
    if count != len(coco_classes.NAMES):
        return numbered(count)
    return Categories(list(coco_classes.NAMES.values()), list(coco_classes.NAMES))
