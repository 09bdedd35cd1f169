"""Reports of detection runs, and comparisons of several: `resdet report`."""
