"""Inference on images, with or without test-time augmentation."""
