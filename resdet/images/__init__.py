"""From encoded files to pixels of a wanted size; data sets and models both see images through it."""
