import pytest

from resdet import config
from resdet.errors import ConfigError


def refused(path, *overrides: str) -> str:
    """Returns the message of the ConfigError and checks that it is one line."""
    with pytest.raises(ConfigError) as caught:
        config.load(path, *overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)
