"""Data sets of images with one class and the boxes of its instances."""
