"""Opens the data sets of a config."""

from resdet.localization.data.config import LocalizationConfig
from resdet.localization.data.ilsvrc_loc import LocalizedImages


def open_localized(config: LocalizationConfig, split: str) -> LocalizedImages:
    """The images of a split, `train` or `val`, with classes and boxes."""
    return config.open(split)
