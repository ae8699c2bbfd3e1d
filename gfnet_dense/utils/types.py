"""Types that many modules share."""

Size = tuple[int, int]  # (H, W)

# Words for mixed precision: a dtype, or the one that PyTorch takes for the device
AMP = ("auto", "float16", "bfloat16")

# Means against rare classes in a training, see gfnet_dense.engine.runner.balancing
BALANCE = ("weights", "lovasz", "sampler")

# Formats of labeled data sets, see gfnet_dense.datasets.conversion
LABEL_FORMATS = ("labelme", "cvat", "voc-boxes", "voc-masks", "yolo", "via", "coco", "masks")
