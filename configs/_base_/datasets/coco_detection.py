# COCO 2017 (https://cocodataset.org), 80 classes, 118287 + 5000 images, without masks.
# Pillow reports a truncated file, while OpenCV returns an image whose lower part is gray.
load_image = dict(type="LoadImageFromFile", imdecode_backend="pillow")
load_annotations = dict(type="LoadAnnotations", with_bbox=True)
resize = dict(type="Resize", scale=(1333, 800), keep_ratio=True)
pack = dict(type="PackDetInputs")
train_pipeline = [load_image, load_annotations, resize, dict(type="RandomFlip", prob=0.5), pack]
# Resize comes before the annotations, so that these stay at the original size, as predictions do.
test_pipeline = [load_image, resize, load_annotations, pack]
coco = dict(type="CocoDataset", data_root="data/coco")
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    batch_sampler=dict(type="AspectRatioBatchSampler"),
    dataset=dict(
        ann_file="annotations/instances_train2017.json",
        data_prefix=dict(img="train2017"),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=train_pipeline,
        **coco,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        ann_file="annotations/instances_val2017.json",
        data_prefix=dict(img="val2017"),
        test_mode=True,
        pipeline=test_pipeline,
        **coco,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type="CocoMetric",
    ann_file="data/coco/annotations/instances_val2017.json",
    metric=["bbox"],
    classwise=True,  # print a table with the AP of each class
)
test_evaluator = val_evaluator
