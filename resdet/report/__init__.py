"""Reports of runs as one HTML file, Markdown and JSON: `resdet report`."""
