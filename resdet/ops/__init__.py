"""Functions on tensors that detectors are made of, batched over images, with shapes known beforehand.

Boxes are xyxy in pixels, right and bottom edge exclusive. What depends on the data (NMS, RoIAlign, RoIPool) is a
`torch.library` operator, so that compilation and export take it whole.
"""
