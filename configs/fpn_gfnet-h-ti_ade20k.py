# Semantic FPN, GFNet-H-Ti, ADE20K, crop 512, 80k iterations, as GFNet's authors train it.
_base_ = [
    "./_base_/models/fpn_gfnet.py",
    "./_base_/datasets/ade20k_align32.py",
    "./_base_/schedules/adamw_poly_80k.py",
    "./_base_/seg_runtime.py",
]
