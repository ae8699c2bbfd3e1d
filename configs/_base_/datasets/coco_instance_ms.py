# COCO 2017 with masks; training images have shorter sides of 480 to 800 pixels.
_base_ = ["./coco_instance.py"]
load_image, load_annotations, _, flip, pack = _base_.train_dataloader.dataset.pipeline
sides = [(1333, side) for side in range(480, 801, 32)]
resize = dict(type="RandomChoiceResize", scales=sides, keep_ratio=True)
train_dataloader = dict(dataset=dict(pipeline=[load_image, load_annotations, resize, flip, pack]))
