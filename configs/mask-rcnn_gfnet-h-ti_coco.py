# Mask R-CNN, GFNet-H-Ti, COCO, 1x.
_base_ = [
    "./_base_/models/mask-rcnn_gfnet.py",
    "./_base_/datasets/coco_instance.py",
    "./_base_/schedules/adamw_1x.py",
    "./_base_/det_runtime.py",
]
