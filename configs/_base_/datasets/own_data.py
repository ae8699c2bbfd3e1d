# Images and label maps in folders: {images,labels}/{train,val}. A config that inherits this file
# sets data_root, classes and suffixes.
_base_ = ["./segmentation.py"]
train_dataloader = dict(
    dataset=dict(
        type="BaseSegDataset",
        data_prefix=dict(img_path="images/train", seg_map_path="labels/train"),
        pipeline=_base_.train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        type="BaseSegDataset",
        data_prefix=dict(img_path="images/val", seg_map_path="labels/val"),
        pipeline=_base_.test_pipeline,
    )
)
test_dataloader = val_dataloader
