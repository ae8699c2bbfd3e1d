# Mask R-CNN, HorNet-T-GF, COCO, 1x.
_base_ = [
    "./_base_/models/mask-rcnn_hornet.py",
    "./_base_/datasets/coco_instance.py",
    "./_base_/schedules/adamw_1x.py",
    "./_base_/det_runtime.py",
]
# The authors' rate for Mask R-CNN, 0.95, is for layers of two blocks.
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.95**0.5, decay_type="layer_wise"))
