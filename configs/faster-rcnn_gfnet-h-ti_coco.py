# Faster R-CNN, GFNet-H-Ti, COCO, 1x.
_base_ = [
    "./_base_/models/faster-rcnn_gfnet.py",
    "./_base_/datasets/coco_detection.py",
    "./_base_/schedules/adamw_1x.py",
    "./_base_/det_runtime.py",
]
