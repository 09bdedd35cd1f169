"""Evaluators of detections (COCO, PASCAL VOC, ILSVRC DET) and writers of submissions."""
