"""From images to results, with or without test-time augmentation."""
