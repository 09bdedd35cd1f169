"""Tensor names of other libraries, one file a library."""
