"""Scenes: pictures with their objects, augmented together and made into padded batches."""
