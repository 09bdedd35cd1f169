"""Anchors, the region proposal network, box, mask and keypoint heads, and their losses."""
