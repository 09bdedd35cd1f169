"""Images with objects: annotation formats, augmentation, batches."""
