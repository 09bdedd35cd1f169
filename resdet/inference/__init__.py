"""What trained detectors say of pictures: results, how they are made with more care, and how they are shown."""

from resdet._lazy import attach

__getattr__, __dir__ = attach(
    __name__,
    {
        "Result": "result",
        "Tester": "testing",
        "TestingConfig": "config",
        "Finder": "finding",
        "ShowingConfig": "config",
        "drawing": "drawing",
    },
)
