"""Export to ONNX, OpenVINO and torch.export.

Importing this package registers the custom operators of exported programs, which `torch.export.load` needs.
"""

from typing import TYPE_CHECKING

from resdet._lazy import attach
from resdet.ops import nms as nms
from resdet.ops import roi_align as roi_align
from resdet.ops import roi_pool as roi_pool

if TYPE_CHECKING:
    from resdet.export.form import Form as Form
    from resdet.export.onnx import to_onnx as to_onnx
    from resdet.export.program import to_program as to_program

__getattr__, __dir__ = attach(__name__, {"Form": "form", "to_onnx": "onnx", "to_program": "program"})
