# UPerNet, isotropic GFNet-B, ADE20K, crop 512: four depths of a stride-16 map make the pyramid.
_base_ = ["./upernet_gfnet_ade20k.py"]
model = dict(
    backbone=dict(
        _delete_=True,
        type="gfnet_dense.IsotropicGFNet",
        arch="base",
        img_size=224,
        out_indices=(4, 9, 14, 18),
        init_cfg=dict(type="Pretrained", checkpoint="gfnet://base"),
    ),
    neck=dict(type="Feature2Pyramid", embed_dim=512, rescales=[4, 2, 1, 0.5]),
    decode_head=dict(in_channels=[512, 512, 512, 512]),
    auxiliary_head=dict(in_channels=512),
)
