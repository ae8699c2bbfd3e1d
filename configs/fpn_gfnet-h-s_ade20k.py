# Semantic FPN, GFNet-H-S, ADE20K, crop 512, 80k iterations, as GFNet's authors train it.
_base_ = ["./fpn_gfnet-h-ti_ade20k.py"]
model = dict(
    backbone=dict(arch="h-small", init_cfg=dict(checkpoint="gfnet://h-small")),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
