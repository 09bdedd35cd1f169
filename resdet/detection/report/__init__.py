"""The report of a detection run, and the comparison of several: `resdet report`."""
