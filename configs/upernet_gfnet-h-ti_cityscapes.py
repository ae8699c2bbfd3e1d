# UPerNet, GFNet-H-Ti, Cityscapes, crop 512x1024, tests on whole 1024x2048 images, 160k iterations
# of 8 images with the learning rate 6e-5, as for SegFormer (https://arxiv.org/abs/2105.15203).
_base_ = [
    "./_base_/models/upernet_gfnet.py",
    "./_base_/datasets/cityscapes.py",
    "./_base_/schedules/adamw_poly_160k.py",
    "./_base_/seg_runtime.py",
]
model = dict(
    data_preprocessor=dict(size=(512, 1024)),
    decode_head=dict(num_classes=19),
    auxiliary_head=dict(num_classes=19),
    test_cfg=dict(crop_size=(512, 1024), stride=(341, 683)),
)
auto_scale_lr = dict(base_batch_size=8)  # 8 GPUs x 1
