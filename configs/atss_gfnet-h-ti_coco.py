# ATSS, GFNet-H-Ti, COCO, 1x: the smallest detector here.
_base_ = [
    "./_base_/models/atss_gfnet.py",
    "./_base_/datasets/coco_detection.py",
    "./_base_/schedules/adamw_1x.py",
    "./_base_/det_runtime.py",
]
