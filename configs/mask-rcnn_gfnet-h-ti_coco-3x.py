# Mask R-CNN, GFNet-H-Ti, COCO, multi-scale 3x.
_base_ = [
    "./_base_/models/mask-rcnn_gfnet.py",
    "./_base_/datasets/coco_instance_ms.py",
    "./_base_/schedules/adamw_3x.py",
    "./_base_/det_runtime.py",
]
