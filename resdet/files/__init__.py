"""Reading and writing files: atomic writes, verified downloads, archives, restricted pickles, JSON."""
