# Mask R-CNN, GFNet-H-B, COCO, 1x.
_base_ = ["./mask-rcnn_gfnet-h-ti_coco.py"]
model = dict(
    backbone=dict(arch="h-base", init_cfg=dict(checkpoint="gfnet://h-base")),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
