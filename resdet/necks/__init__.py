"""Feature pyramids over a backbone's stages."""
