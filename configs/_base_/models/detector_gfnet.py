# Settings of all detectors: images of any size, padded to multiples of 32, and GFNet-H-Ti.
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
        # The size of the pretraining; filters are resized to the size of each batch.
        img_size=224,
        init_cfg=dict(type="Pretrained", checkpoint="gfnet://h-tiny"),
    ),
)
