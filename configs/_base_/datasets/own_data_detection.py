# Images in folders and boxes in COCO files: images/{train,val}, annotations/{train,val}.json. A
# config that inherits this file sets data_root and classes.
_base_ = ["./coco_detection.py"]
load_image, load_annotations, _, flip, pack = _base_.train_pipeline
# Large images become smaller, small ones stay as they are.
resize = dict(type="gfnet_dense.ShrinkToFit", scale=(1333, 800))
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        ann_file="annotations/train.json",
        data_prefix=dict(img="images/train"),
        filter_cfg=dict(filter_empty_gt=False, min_size=1),  # images of the background alone
        pipeline=[load_image, load_annotations, resize, flip, pack],
    ),
)
val_dataloader = dict(
    dataset=dict(
        ann_file="annotations/val.json",
        data_prefix=dict(img="images/val"),
        pipeline=[load_image, resize, load_annotations, pack],
    )
)
test_dataloader = val_dataloader
