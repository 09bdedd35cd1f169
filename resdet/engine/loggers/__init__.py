"""Loggers: places that the metrics and pictures of a run are written to, besides metrics.jsonl. One file each."""
