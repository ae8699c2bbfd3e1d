# Cascade Mask R-CNN, HorNet-L-GF pretrained on ImageNet-22K at 384, COCO, DETR's augmentation, 3x.
_base_ = ["./cascade-mask-rcnn_hornet-tiny-gf_coco-3x.py"]
model = dict(
    backbone=dict(
        arch="large-gf",
        img_size=384,  # as in the authors' config; their smaller detectors have 224
        drop_path_rate=0.7,
        init_cfg=dict(checkpoint="hornet://large-gf"),
    ),
    neck=dict(in_channels=[192, 384, 768, 1536]),
)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
