"""Batches of images that cannot be stacked, and samples that training cannot use."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from gfnet_dense.utils.errors import InputError

SAMPLES = 8  # images of a dataset whose size after its pipeline is compared
# Errors at images of several sizes: of torch.stack in training, and of mmsegmentation's
# SegDataPreProcessor in evaluation
UNEQUAL = "stack expects each tensor to be equal size"
UNEQUAL_EVALUATED = "The image size in a batch should be the same"
UNLABELED = "'SegDataSample' object has no attribute '_gt_sem_seg'"  # in training
CURE_EVALUATED = "set batch_size of val_dataloader and test_dataloader to 1"


def check_evaluated_sizes(dataloader: Any, preprocessor: Any) -> None:
    """Check on a sample that mmsegmentation can stack the images of an evaluation.

    Args:
        dataloader: The dataloader of a validation or a test, whose dataset is guarded.
        preprocessor: The ``data_preprocessor`` of the model; others than mmsegmentation's pad.

    Raises:
        InputError: If images of several sizes would come into one batch.
    """
    if type(preprocessor).__name__ != "SegDataPreProcessor" or dataloader.batch_size in (None, 1):
        return
    dataset = dataloader.dataset
    places = np.linspace(0, len(dataset) - 1, min(len(dataset), SAMPLES)).astype(int)
    images = (dataset[int(i)]["inputs"] for i in places)
    sizes = {tuple(getattr(each, "shape", ())[1:]) for each in images}  # lists in augmented tests
    if len(sizes) > 1:
        (h, w), (other_h, other_w), *_ = sorted(sizes)
        raise InputError(
            f"images of {w}x{h} and {other_w}x{other_h} pixels are evaluated in batches of "
            f"{dataloader.batch_size}, which need one size: {CURE_EVALUATED}"
        )


@contextmanager
def explained() -> Iterator[None]:
    """Turn errors at batches and samples that the pipeline of the config makes into InputErrors."""
    try:
        yield
    except (AssertionError, AttributeError, RuntimeError) as e:
        if UNEQUAL in str(e):
            raise InputError(
                "the images of a batch have different sizes: let the pipeline of train_dataloader "
                "end with one size, by RandomCrop and size of the data_preprocessor, or by Resize "
                "with keep_ratio=False"
            ) from e
        if UNEQUAL_EVALUATED in str(e):
            raise InputError(
                f"the images of a batch to evaluate have different sizes: {CURE_EVALUATED}"
            ) from e
        if UNLABELED in str(e):
            raise InputError(
                "images are trained without label maps: the pipeline of train_dataloader needs "
                "LoadAnnotations"
            ) from e
        raise
