# UPerNet, GFNet-H-S, ADE20K, crop 512, 160k iterations.
_base_ = ["./upernet_gfnet_ade20k.py"]
model = dict(
    backbone=dict(arch="h-small", init_cfg=dict(checkpoint="gfnet://h-small")),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)
