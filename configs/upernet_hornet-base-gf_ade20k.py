# UPerNet, HorNet-B-GF, ADE20K, crop 640, 160k iterations. The crop is that of the authors' table;
# their config has 512.
_base_ = [
    "./_base_/models/upernet_hornet.py",
    "./_base_/datasets/ade20k_640.py",
    "./_base_/schedules/hornet_poly_160k.py",
    "./_base_/seg_runtime.py",
]
model = dict(
    data_preprocessor=dict(size=(640, 640)),
    backbone=dict(arch="base-gf", drop_path_rate=0.5, init_cfg=dict(checkpoint="hornet://base-gf")),
    decode_head=dict(in_channels=[128, 256, 512, 1024]),
    auxiliary_head=dict(in_channels=512),
    test_cfg=dict(crop_size=(640, 640), stride=(426, 426)),
)
