# SegFormer's head, GFNet-H-Ti, ADE20K, crop 512, 160k iterations: the smallest segmentor here.
_base_ = [
    "./_base_/models/segformer_gfnet.py",
    "./_base_/datasets/ade20k.py",
    "./_base_/schedules/adamw_poly_160k.py",
    "./_base_/seg_runtime.py",
]
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={"decode_head": dict(lr_mult=10.0)}))
