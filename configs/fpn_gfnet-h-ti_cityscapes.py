# Semantic FPN, GFNet-H-Ti, Cityscapes, crop 512x1024, tests on whole 1024x2048 images,
# 80k iterations of 8 images, as for mmsegmentation's Semantic FPN on Cityscapes.
_base_ = [
    "./_base_/models/fpn_gfnet.py",
    "./_base_/datasets/cityscapes.py",
    "./_base_/schedules/adamw_poly_80k.py",
    "./_base_/seg_runtime.py",
]
model = dict(
    data_preprocessor=dict(size=(512, 1024)),
    decode_head=dict(num_classes=19),
    test_cfg=dict(crop_size=(512, 1024), stride=(341, 683)),
)
auto_scale_lr = dict(base_batch_size=8)  # 8 GPUs x 1
