"""The color statistics of ImageNet's training images, RGB, 0 to 255, as most pretrained nets take them off."""

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
