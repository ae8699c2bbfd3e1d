# Mask R-CNN, HorNet-S-GF, COCO, 1x.
_base_ = ["./mask-rcnn_hornet-tiny-gf_coco.py"]
model = dict(
    backbone=dict(
        arch="small-gf", drop_path_rate=0.6, init_cfg=dict(checkpoint="hornet://small-gf")
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
