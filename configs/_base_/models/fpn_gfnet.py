# Semantic FPN (https://arxiv.org/abs/1901.02446), with the head that PVT uses.
_base_ = ["./segmentor_gfnet.py"]
model = dict(
    neck=dict(
        type="gfnet_dense.FPN", in_channels=[64, 128, 256, 512], out_channels=256, num_outs=4
    ),
    decode_head=dict(
        type="gfnet_dense.FPNHead",
        in_channels=[256, 256, 256, 256],
        in_index=[0, 1, 2, 3],
        feature_strides=[4, 8, 16, 32],
        channels=128,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=dict(type="SyncBN", requires_grad=True),
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    ),
)
