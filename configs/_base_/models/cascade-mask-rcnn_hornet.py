# Cascade Mask R-CNN with HorNet-T-GF, and with the box heads that ConvNeXt's has
# (https://arxiv.org/abs/2201.03545): four convolutions, boxes for each class, GIoU loss.
_base_ = ["./cascade-mask-rcnn_gfnet.py", "./hornet.py"]
convs_and_giou = dict(
    type="Shared4Conv1FCBBoxHead",
    conv_out_channels=256,
    norm_cfg=dict(type="SyncBN", requires_grad=True),
    reg_class_agnostic=False,
    reg_decoded_bbox=True,
    loss_bbox=dict(type="GIoULoss", loss_weight=10.0),
)
model = dict(
    backbone=dict(_base_.hornet, _delete_=True, img_size=224),
    roi_head=dict(
        bbox_head=[dict(head, **convs_and_giou) for head in _base_.model.roi_head.bbox_head]
    ),
)
