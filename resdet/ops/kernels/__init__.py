"""Triton kernels of NMS and RoIAlign; imported only with a CUDA device or Triton's interpreter."""
