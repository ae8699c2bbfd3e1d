# Semantic FPN, GFNet-H-Ti, Pascal VOC 2012 with SBD's label maps, crop 512, 40k iterations.
_base_ = [
    "./_base_/models/fpn_gfnet.py",
    "./_base_/datasets/voc12aug.py",
    "./_base_/schedules/adamw_poly_80k.py",
    "./_base_/seg_runtime.py",
]
model = dict(decode_head=dict(num_classes=21))
train_cfg = dict(max_iters=40000, val_interval=4000)
param_scheduler = [dict(type="PolyLR", power=0.9, begin=0, end=40000, by_epoch=False)]
