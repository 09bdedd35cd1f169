"""Tensor functions of detectors: batched over images, with static shapes.

Boxes are xyxy in pixels, right and bottom edge exclusive. Data-dependent functions (NMS, RoIAlign, RoIPool) are
`torch.library` operators, which compilation and export keep whole.
"""
