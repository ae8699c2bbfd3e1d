# Cascade Mask R-CNN, GFNet-H-S, COCO, 1x.
_base_ = ["./cascade-mask-rcnn_gfnet-h-ti_coco.py"]
model = dict(
    backbone=dict(arch="h-small", init_cfg=dict(checkpoint="gfnet://h-small")),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
