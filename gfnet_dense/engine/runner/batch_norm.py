"""Batches of one image, from which a batch norm behind global pooling cannot learn.

Such a norm gets one value for each channel and image. PyTorch refuses to normalize a single value:
at the first step with ``batch_size=1``, and else at the end of an epoch whose last batch has one
image (open-mmlab/mmsegmentation#2149).
"""

from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_world_size
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import BatchSampler, DataLoader

from gfnet_dense.utils.errors import InputError

POOLS = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
# PyTorch 2.13: torch.nn.functional._verify_batch_size, and SyncBatchNorm of one process
REFUSAL = "Expected more than 1 value per channel when training"
CURES = "or take another norm for the head, such as norm_cfg=dict(type='GN', num_groups=32)"


def check_batches(model: nn.Module, dataloader: DataLoader) -> None:
    """Check before a training that no batch is too small for the norms of its model.

    Args:
        model: The model; it is set to training mode, in which frozen norms are not.
        dataloader: Dataloader of the training.

    Raises:
        InputError: If a batch norm follows global pooling, and a batch has a single image.
    """
    norm = norm_behind_pooling(model.train())
    if norm is None:
        return
    reason = f"{norm} is a batch norm behind global pooling, which needs 2 images or more"
    if dataloader.batch_size == 1:
        raise InputError(
            f"train_dataloader.batch_size is 1, but {reason}: set it to 2 or more, {CURES}"
        )
    sampler = getattr(dataloader.sampler, "sampler", dataloader.sampler)  # in a SeededSampler
    if isinstance(sampler, InfiniteSampler) or type(dataloader.batch_sampler) is not BatchSampler:
        return
    count, size = len(dataloader.sampler), dataloader.batch_size  # type: ignore[arg-type]
    if size and count % size == 1 and not dataloader.drop_last:
        raise InputError(
            f"the last batch of an epoch has one image ({count} images in batches of {size}), but "
            f"{reason}: set train_dataloader.drop_last=True, {CURES}"
        )


def norm_behind_pooling(model: nn.Module) -> str | None:
    """Return the name of a batch norm that gets one value for each channel and image, if any.

    Only norms inside an ``nn.Sequential`` are found, as in PPM, ASPP, BiSeNet, ICNet and STDC.
    SyncBatchNorm of several processes sees the images of all of them.
    """
    for name, module in model.named_modules():
        if not isinstance(module, nn.Sequential):
            continue
        pooled = False
        for key, child in module.named_children():
            if isinstance(child, POOLS) and child.output_size in (1, (1, 1)):
                pooled = True
            for inner_name, inner in child.named_modules() if pooled else ():
                synchronized = isinstance(inner, nn.SyncBatchNorm) and get_world_size() > 1
                if isinstance(inner, _BatchNorm) and inner.training and not synchronized:
                    return ".".join(part for part in (name, key, inner_name) if part)
    return None


@contextmanager
def explained() -> Iterator[None]:
    """Turn PyTorch's refusal to normalize a single value into an InputError.

    It reaches what :func:`check_batches` cannot see: pooling inside a ``forward``, and maps that
    are a single pixel because the images are small.
    """
    try:
        yield
    except ValueError as e:
        if REFUSAL not in str(e):
            raise
        size = str(e).rpartition("input size ")[2]
        raise InputError(
            f"a batch norm got a single value for each channel ({size}): the batch, perhaps the "
            "last one of an epoch, holds one image, whose map is one pixel; set "
            "train_dataloader.batch_size to 2 or more and train_dataloader.drop_last=True, "
            f"{CURES}"
        ) from e
