"""Class indices of images whose logits would not fit into memory as a whole.

The logits of 150 classes for an image of 80 megapixels take 48 GB, the class indices 80 MB as
uint8. The functions here describe logits at the size of an image by how a band of their rows is
made, so that only a band of them exists at a time.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor

from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.types import Size

BAND_BYTES = 2**24  # of the logits that are made together; on a CPU they are still in its caches
WHOLE_BYTES = 2**30  # up to which logits are made as a whole if bands would differ by rounding
# PyTorch resizes to a height and width of 128 or less together by another kernel
# (_use_vectorized_kernel_cond_2d in aten/src/ATen/native/cpu/UpSampleKernel.cpp, 2.13).
OTHER_KERNEL = 128


@dataclass(frozen=True)
class Rows:
    """A map (num_classes, H, W) of which any rows can be made.

    Attributes:
        size: (H, W).
        read: Function of ``start`` and ``stop`` that returns the rows (num_classes, stop - start,
            W).
        pixel_bytes: Bytes of the logits of one pixel.
        exact: Whether the rows, and those of the resized map, are those of the whole map bit for
            bit, however they are read; else their numbers may differ by rounding.
    """

    size: Size
    read: Callable[[int, int], Tensor]
    pixel_bytes: int
    exact: bool = True


def rows_of(logits: Tensor) -> Rows:
    """Return the rows of a map (num_classes, H, W)."""
    size = (logits.shape[1], logits.shape[2])
    # On an H100 bands of a channels_last map were rounded in another way than the whole.
    exact = logits.device.type == "cpu" or logits.is_contiguous()
    return Rows(size, lambda start, stop: logits[:, start:stop], _pixel_bytes(logits), exact)


def _pixel_bytes(logits: Tensor) -> int:
    return len(logits) * logits.element_size()


def streamed_rows(bands: Iterator[Tensor], size: Size) -> Rows:
    """Return the rows of a map that comes in bands (num_classes, rows, W) from top to bottom.

    Rows above the last ones that were read are forgotten: they can only be read downwards.
    """
    first = next(bands)
    coming, kept, top = chain([first], bands), first[:, :0], 0

    def read(start: int, stop: int) -> Tensor:
        nonlocal kept, top
        parts, bottom = [kept], top + kept.shape[1]
        while bottom < stop:
            parts.append(next(coming))
            bottom += parts[-1].shape[1]
        kept, top = torch.cat(parts, dim=1)[:, start - top :], start
        return kept[:, : stop - start]

    return Rows(size, read, _pixel_bytes(first))


def cropped(rows: Rows, padding: tuple[int, int, int, int]) -> Rows:
    """Return the rows without (left, right, top, bottom) rows and columns at the edges."""
    left, right, top, bottom = padding
    H, W = rows.size
    size = (H - top - bottom, W - left - right)
    return replace(
        rows,
        size=size,
        read=lambda start, stop: rows.read(top + start, top + stop)[..., left : left + size[1]],
    )


def flipped(rows: Rows, direction: str) -> Rows:
    """Return the rows of the map flipped in ``direction``, ``horizontal`` or ``vertical``.

    The vertical flip reads all rows at once.
    """
    dim = {"horizontal": 2, "vertical": 1}[direction]
    if direction == "vertical":
        return rows_of(rows.read(0, rows.size[0]).flip(dim))
    return replace(rows, read=lambda start, stop: rows.read(start, stop).flip(dim))


def resized(rows: Rows, size: Size, align_corners: bool) -> Rows:
    """Return the rows of the bilinearly resized map.

    All rows at once come from ``interpolate`` itself. So do bands of a map whose height grows by a
    power of two, and with the same numbers, since it can be cut between two rows. Other bands are
    interpolated between the rows above and below, in another order of the operations.

    Args:
        rows: The map.
        size: Wanted size, (H, W).
        align_corners: See :func:`torch.nn.functional.interpolate`.
    """
    (h, w), (H, W) = rows.size, size
    if (h, w) == (H, W):
        return rows
    factor, rest = divmod(H, h)
    is_power = not rest and factor & (factor - 1) == 0
    exact = is_power and W > OTHER_KERNEL and not align_corners

    def interpolate(band: Tensor, height: int) -> Tensor:
        band = band[None]
        return F.interpolate(band, (height, W), mode="bilinear", align_corners=align_corners)[0]

    def read(start: int, stop: int) -> Tensor:
        if stop - start == H:
            return interpolate(rows.read(0, h), H)
        if exact:
            top, bottom = max(start // factor - 1, 0), min((stop - 1) // factor + 2, h)
            band = interpolate(rows.read(top, bottom), (bottom - top) * factor)
            return band[:, start - top * factor : stop - top * factor]
        # Source row of each row of the result, as interpolate defines it; on the CPU, since some
        # devices have no float64
        places = torch.arange(start, stop, dtype=torch.float64)
        if align_corners:
            places = places * ((h - 1) / max(H - 1, 1))
        else:
            places = ((places + 0.5) * (h / H) - 0.5).clamp(min=0)
        above = places.long().clamp(max=h - 1)
        below = (above + 1).clamp(max=h - 1)
        top, bottom = int(above[0]), int(below[-1]) + 1
        band = rows.read(top, bottom)
        weight = (places - above).to(band.dtype)[:, None].to(band.device)
        upper, lower = (band[:, (side - top).to(band.device)] for side in (above, below))
        return interpolate(torch.lerp(upper, lower, weight), stop - start)

    return Rows(size, read, rows.pixel_bytes, exact and rows.exact)


def labels_of(logits: Tensor, threshold: float | None = None) -> Tensor:
    """Return the class indices (..., H, W), int64, of logits (..., num_classes, H, W).

    Args:
        logits: Logits of the classes. With one class its probability is the sigmoid of the logit.
        threshold: Probability above which a single class gets the index 1, else 0; not used with
            more than one class.
    """
    if logits.shape[-3] > 1:
        return logits.argmax(dim=-3)
    if threshold is None:
        raise InputError(
            "the head has a single class and no threshold, the probability above which it is "
            "predicted: set threshold=0.3, as mmsegmentation does"
        )
    return (logits.squeeze(-3).sigmoid() > threshold).long()


def label_map(rows: Rows, threshold: float | None = None) -> Tensor:
    """Return the class indices (H, W), int64, of a map of logits, made a band of rows at a time.

    Args:
        rows: The logits.
        threshold: See :func:`labels_of`.

    Returns:
        The class indices of the whole map. Only where bands are not exact and the whole map takes
        more than ``WHOLE_BYTES``, rounding may decide differently between classes whose logits are
        almost equal.
    """
    H, W = rows.size
    row_bytes = W * rows.pixel_bytes
    in_bands = rows.exact or H * row_bytes > WHOLE_BYTES
    count = max(BAND_BYTES // row_bytes, 1) if in_bands else H
    bands = ((start, min(start + count, H)) for start in range(0, H, count))
    labels = []
    for band in bands:
        logits = rows.read(*band)
        # max is faster than argmax on a CPU; both take the first of equal values.
        labels.append(logits.max(0).indices if len(logits) > 1 else labels_of(logits, threshold))
    return torch.cat(labels)
