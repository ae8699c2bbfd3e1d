# Mask R-CNN, GFNet-H-Ti, your own images with boxes and masks, 24 epochs: see docs/own_data.md.
_base_ = [
    "./_base_/models/mask-rcnn_gfnet.py",
    "./_base_/datasets/own_data_instance.py",
    "./_base_/own_data_runtime.py",
]
# Set these: the folder, and the names of the classes in the order of the COCO files; None takes
# all that annotations/train.json names.
data_root = "data/my_dataset"
classes = ["person", "car"]

# All else follows from them.
from gfnet_dense.datasets.coco.file import read_category_names  # noqa: E402

classes = classes or read_category_names(f"{data_root}/annotations/train.json")
own_data = dict(data_root=data_root, metainfo=dict(classes=classes))
train_dataloader = dict(dataset=own_data)
val_dataloader = dict(dataset=own_data)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=f"{data_root}/annotations/val.json")
test_evaluator = val_evaluator
heads = dict(num_classes=len(classes))
model = dict(roi_head=dict(bbox_head=heads, mask_head=heads))
