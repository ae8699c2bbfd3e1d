# RetinaNet, GFNet-H-S, COCO, 1x.
_base_ = ["./retinanet_gfnet-h-ti_coco.py"]
model = dict(
    backbone=dict(arch="h-small", init_cfg=dict(checkpoint="gfnet://h-small")),
    neck=dict(in_channels=[192, 384, 768]),
)
