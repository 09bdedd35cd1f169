"""Checkpoints of earlier versions, which had other names for some tensors and config keys."""
