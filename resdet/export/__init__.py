"""Models for other runtimes: ONNX files, and programs of torch.export.

Importing this registers the operators that such a program calls, so that `torch.export.load` finds them.
"""

from resdet.export.form import Form as Form
from resdet.export.onnx import to_onnx as to_onnx
from resdet.export.program import to_program as to_program
from resdet.ops import nms as nms
from resdet.ops import roi_align as roi_align
