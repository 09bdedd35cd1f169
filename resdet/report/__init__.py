"""Reports of runs as a single HTML file, Markdown or JSON: `resdet report`."""
