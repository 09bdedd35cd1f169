"""Image decoding, cropping and resizing, shared by data sets and models."""
