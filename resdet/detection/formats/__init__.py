"""Annotation formats, recognized by the content of a folder and read as dicts in COCO's format; one file per format."""
