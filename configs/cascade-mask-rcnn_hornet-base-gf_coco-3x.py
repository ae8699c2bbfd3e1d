# Cascade Mask R-CNN, HorNet-B-GF, COCO, DETR's augmentation, 3x.
_base_ = ["./cascade-mask-rcnn_hornet-tiny-gf_coco-3x.py"]
model = dict(
    backbone=dict(arch="base-gf", drop_path_rate=0.7, init_cfg=dict(checkpoint="hornet://base-gf")),
    neck=dict(in_channels=[128, 256, 512, 1024]),
)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.8**0.5))
