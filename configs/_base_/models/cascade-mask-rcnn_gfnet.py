# Cascade Mask R-CNN (https://arxiv.org/abs/1906.09756): three box heads with rising IoU
# thresholds.
_base_ = ["./mask-rcnn_gfnet.py"]
box_head, rcnn = _base_.model.roi_head.bbox_head, _base_.model.train_cfg.rcnn
stds = ([0.1, 0.1, 0.2, 0.2], [0.05, 0.05, 0.1, 0.1], [0.033, 0.033, 0.067, 0.067])
box_losses = dict(
    reg_class_agnostic=True, loss_bbox=dict(type="SmoothL1Loss", beta=1.0, loss_weight=1.0)
)
model = dict(
    type="CascadeRCNN",
    rpn_head=dict(
        loss_bbox=dict(_delete_=True, type="SmoothL1Loss", beta=1.0 / 9.0, loss_weight=1.0)
    ),
    roi_head=dict(
        type="CascadeRoIHead",
        num_stages=3,
        stage_loss_weights=[1, 0.5, 0.25],
        bbox_head=[
            box_head | box_losses | dict(bbox_coder=dict(box_head.bbox_coder, target_stds=std))
            for std in stds
        ],
    ),
    train_cfg=dict(
        rpn=dict(allowed_border=0),
        rpn_proposal=dict(max_per_img=2000),
        rcnn=[
            rcnn
            | dict(
                assigner=dict(
                    type="MaxIoUAssigner",
                    pos_iou_thr=iou,
                    neg_iou_thr=iou,
                    min_pos_iou=iou,
                    match_low_quality=False,
                    ignore_iof_thr=-1,
                )
            )
            for iou in (0.5, 0.6, 0.7)
        ],
    ),
)
