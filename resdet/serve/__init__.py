"""Prediction over HTTP: the server of `resdet serve` and its client, `predict`.

import resdet.serve

result = resdet.serve.predict("http://127.0.0.1:8000", "street.jpg", score=0.5)
"""

from typing import TYPE_CHECKING

from resdet._lazy import attach

if TYPE_CHECKING:
    from resdet.serve.client import predict as predict

__getattr__, __dir__ = attach(__name__, {"predict": "client"})
