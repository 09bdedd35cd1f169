"""Images of one class each, with the boxes of its instances."""
