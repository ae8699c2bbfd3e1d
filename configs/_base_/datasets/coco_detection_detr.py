# COCO 2017 with DETR's augmentation (https://arxiv.org/abs/2005.12872): many scales, and random
# crops of half of the images.
_base_ = ["./coco_detection.py"]
load_image, load_annotations, _, flip, pack = _base_.train_pipeline
sides = [(1333, side) for side in range(480, 801, 32)]
resize = dict(type="RandomChoiceResize", scales=sides, keep_ratio=True)
enlarge = dict(
    type="RandomChoiceResize", scales=[(4200, 400), (4200, 500), (4200, 600)], keep_ratio=True
)
crop = dict(
    type="RandomCrop",
    crop_type="absolute_range",
    crop_size=(384, 600),
    allow_negative_crop=True,
)
augment = dict(type="RandomChoice", transforms=[[resize], [enlarge, crop, resize]])
train_dataloader = dict(
    dataset=dict(
        filter_cfg=dict(filter_empty_gt=False),
        pipeline=[load_image, load_annotations, flip, augment, pack],
    )
)
