# What the detectors share: images of any size, padded to multiples of 32, and GFNet-H-Ti.
model = dict(
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type="gfnet_dense.GFNet",
        arch="h-tiny",
        img_size=224,  # the pretraining's: every batch has a size of its own, filters follow it
        init_cfg=dict(type="Pretrained", checkpoint="gfnet://h-tiny"),
    ),
)
