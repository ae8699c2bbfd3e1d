# ADE20K with crops of 640x640 from images with a shorter side of about 640.
_base_ = ["./ade20k.py"]
load_image, load_annotations, resize, crop, *rest = _base_.train_pipeline
train_pipeline = [
    load_image,
    load_annotations,
    dict(resize, scale=(2560, 640)),
    dict(crop, crop_size=(640, 640)),
    *rest,
]
load_image, resize, *rest = _base_.test_pipeline
test_pipeline = [load_image, dict(resize, scale=(2560, 640)), *rest]
tta_scales = [(2560 * i // 4, 640 * i // 4) for i in (2, 3, 4, 5, 6, 7)]
_, *others = _base_.tta_pipeline[1].transforms
tta_resize = [dict(type="Resize", scale=scale, keep_ratio=True) for scale in tta_scales]
tta_pipeline = [load_image, dict(type="TestTimeAug", transforms=[tta_resize, *others])]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
