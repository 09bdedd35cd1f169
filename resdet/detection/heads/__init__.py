"""Anchors, the region proposal network, box and mask heads, and their losses."""
