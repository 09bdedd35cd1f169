"""Loggers: destinations of a run's metrics and pictures, in addition to metrics.jsonl. One file each."""
