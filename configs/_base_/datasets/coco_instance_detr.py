# COCO 2017 with masks and DETR's augmentation (https://arxiv.org/abs/2005.12872) as ConvNeXt and
# HorNet take it: shorter sides of 480 to 800, and random crops of half of the images.
_base_ = ["./coco_instance_ms.py"]
load_image, load_annotations, resize, flip, pack = _base_.train_dataloader.dataset.pipeline
shrink = dict(
    type="RandomChoiceResize", scales=[(1333, 400), (1333, 500), (1333, 600)], keep_ratio=True
)
crop = dict(
    type="RandomCrop",
    crop_type="absolute_range",
    crop_size=(384, 600),
    allow_negative_crop=True,
)
augment = dict(type="RandomChoice", transforms=[[resize], [shrink, crop, resize]])
train_dataloader = dict(dataset=dict(pipeline=[load_image, load_annotations, flip, augment, pack]))
