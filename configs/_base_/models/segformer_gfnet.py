# The all-MLP head of SegFormer (https://arxiv.org/abs/2105.15203).
_base_ = ["./segmentor_gfnet.py"]
model = dict(
    decode_head=dict(
        type="gfnet_dense.SegformerHead",
        in_channels=[64, 128, 256, 512],
        in_index=[0, 1, 2, 3],
        channels=256,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=dict(type="SyncBN", requires_grad=True),
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    ),
)
