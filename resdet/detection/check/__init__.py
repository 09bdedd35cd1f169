"""Faults of a detection data set, found before a training: `resdet data check`."""
