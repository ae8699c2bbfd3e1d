# Cityscapes (https://www.cityscapes-dataset.com), 19 classes, 2975 + 500 images of 1024x2048. The
# label maps, *_gtFine_labelTrainIds.png, are made by cityscapesScripts' csCreateTrainIdLabelImgs.
_base_ = ["./segmentation.py"]
load_image, load_annotations, _, _, *augment = _base_.train_pipeline
train_pipeline = [
    load_image,
    load_annotations,
    dict(type="RandomResize", scale=(2048, 1024), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="RandomCrop", crop_size=(512, 1024), cat_max_ratio=0.75),
    *augment,
]
_, _, *behind_resize = _base_.test_pipeline
test_pipeline = [
    load_image,
    dict(type="Resize", scale=(2048, 1024), keep_ratio=True),
    *behind_resize,
]
tta_scales = [(2048 * i // 4, 1024 * i // 4) for i in (2, 3, 4, 5, 6, 7)]
_, *behind_scales = _base_.tta_pipeline[1].transforms
tta_resizes = [dict(type="Resize", scale=scale, keep_ratio=True) for scale in tta_scales]
tta_pipeline = [
    load_image,
    dict(type="TestTimeAug", transforms=[tta_resizes, *behind_scales]),
]
cityscapes = dict(type="CityscapesDataset", data_root="data/cityscapes")
train_dataloader = dict(
    batch_size=1,
    dataset=dict(
        data_prefix=dict(img_path="leftImg8bit/train", seg_map_path="gtFine/train"),
        pipeline=train_pipeline,
        **cityscapes,
    ),
)
val_dataloader = dict(
    dataset=dict(
        data_prefix=dict(img_path="leftImg8bit/val", seg_map_path="gtFine/val"),
        pipeline=test_pipeline,
        **cityscapes,
    )
)
test_dataloader = val_dataloader
