# RetinaNet, GFNet-H-Ti, COCO, 1x, with the weight decay of PVT (https://arxiv.org/abs/2102.12122).
_base_ = [
    "./_base_/models/retinanet_gfnet.py",
    "./_base_/datasets/coco_detection.py",
    "./_base_/schedules/adamw_1x.py",
    "./_base_/det_runtime.py",
]
optim_wrapper = dict(optimizer=dict(weight_decay=1e-4))
