"""Finds problems of a detection data set before training: `resdet data check`."""
