"""Reading and writing files: atomic writes, verified downloads, restricted pickles, JSON."""
