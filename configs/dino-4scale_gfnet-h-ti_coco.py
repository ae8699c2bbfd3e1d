# DINO on four scales, GFNet-H-Ti, COCO, 12 epochs, with DINO's optimizer.
_base_ = [
    "./_base_/models/dino-4scale_gfnet.py",
    "./_base_/datasets/coco_detection_detr.py",
    "./_base_/schedules/adamw_1x.py",
    "./_base_/det_runtime.py",
]
optim_wrapper = dict(
    optimizer=dict(weight_decay=1e-4),
    clip_grad=dict(max_norm=0.1, norm_type=2),
    paramwise_cfg=dict(custom_keys={"backbone": dict(lr_mult=0.1)}),
)
param_scheduler = [dict(type="MultiStepLR", milestones=[11], gamma=0.1, by_epoch=True, end=12)]
