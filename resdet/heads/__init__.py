"""What turns feature maps into objects: anchors, the region proposal network, box and mask heads, their losses."""
