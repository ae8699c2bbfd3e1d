# UPerNet, GFNet-H-Ti, ADE20K, crop 512, 160k iterations.
_base_ = [
    "./_base_/models/upernet_gfnet.py",
    "./_base_/datasets/ade20k.py",
    "./_base_/schedules/adamw_poly_160k.py",
    "./_base_/seg_runtime.py",
]
