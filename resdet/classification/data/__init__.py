"""Data sets and augmentation for classification."""
