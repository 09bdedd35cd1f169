"""Annotation formats, recognized by a folder's content and read as dicts in COCO's format; one module per format."""
