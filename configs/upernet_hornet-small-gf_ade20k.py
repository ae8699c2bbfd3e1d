# UPerNet, HorNet-S-GF, ADE20K, crop 512, 160k iterations.
_base_ = [
    "./_base_/models/upernet_hornet.py",
    "./_base_/datasets/ade20k.py",
    "./_base_/schedules/hornet_poly_160k.py",
    "./_base_/seg_runtime.py",
]
model = dict(
    backbone=dict(
        arch="small-gf", drop_path_rate=0.3, init_cfg=dict(checkpoint="hornet://small-gf")
    ),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)
