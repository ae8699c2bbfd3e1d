# Mask R-CNN, GFNet-H-S, COCO, multi-scale 3x.
_base_ = ["./mask-rcnn_gfnet-h-ti_coco-3x.py"]
model = dict(
    backbone=dict(arch="h-small", init_cfg=dict(checkpoint="gfnet://h-small")),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
