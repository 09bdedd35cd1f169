"""Triton kernels of NMS and RoIAlign; imported only where there is a CUDA device, or Triton's interpreter."""
