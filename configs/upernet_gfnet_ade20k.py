# UPerNet, GFNet-H-Ti, ADE20K, crop 512, 160k iterations.
_base_ = [
    "./_base_/models/upernet_gfnet.py",
    "./_base_/datasets/ade20k.py",
    "./_base_/schedules/adamw_poly_160k.py",
    "./_base_/seg_runtime.py",
]
# The learning rate of the schedule is for 16 images: 8 GPUs x 2. With others, enable the scaling
# (--cfg-options auto_scale_lr.enable=True): lr = 6e-5 * GPUs * batch_size / 16.
auto_scale_lr = dict(enable=False, base_batch_size=16)
