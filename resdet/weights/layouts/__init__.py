"""Tensor names of other libraries, one module per library."""
