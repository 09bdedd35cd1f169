"""The color statistics of ImageNet's training images, RGB, 0 to 255, which most pretrained nets use."""

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
