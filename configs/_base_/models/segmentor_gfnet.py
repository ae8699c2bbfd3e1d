# Settings of all segmentors: crops of 512x512 in training, whole images in tests, GFNet-H-Ti.
model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(512, 512),
    ),
    backbone=dict(
        type="gfnet_dense.GFNet",
        arch="h-tiny",
        # The size of the pretraining, not of the crop: see docs/resizing.md.
        img_size=224,
        init_cfg=dict(type="Pretrained", checkpoint="gfnet://h-tiny"),
    ),
    train_cfg=dict(),
    # For sliding windows: --cfg-options model.test_cfg.mode=slide
    test_cfg=dict(mode="whole", crop_size=(512, 512), stride=(341, 341)),
)
