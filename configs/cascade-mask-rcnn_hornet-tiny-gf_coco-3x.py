# Cascade Mask R-CNN, HorNet-T-GF, COCO, DETR's augmentation, 3x: the training of the published
# model (https://github.com/raoyongming/HorNet/tree/master/object_detection).
_base_ = [
    "./_base_/models/cascade-mask-rcnn_hornet.py",
    "./_base_/datasets/coco_instance_detr.py",
    "./_base_/schedules/adamw_3x.py",
    "./_base_/det_runtime.py",
]
optim_wrapper = dict(
    optimizer=dict(lr=2e-4),
    # The authors' rate, 0.7, is for layers of two blocks.
    paramwise_cfg=dict(decay_rate=0.7**0.5, decay_type="layer_wise"),
)
