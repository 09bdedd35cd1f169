"""Tensor functions for detectors, batched over images and with static shapes.

Boxes are xyxy in pixels, with exclusive right and bottom edges. Data-dependent functions (NMS, RoIAlign, RoIPool) are
`torch.library` operators, which remain opaque in compilation and export.
"""
