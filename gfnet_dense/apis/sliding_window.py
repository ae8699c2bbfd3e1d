"""Labels of images whose logits as a whole would not fit memory.

150 classes of an 80-megapixel image are 48 GB of logits, its labels 80 MB. Pure functions of
tensors; the windows are those of mmsegmentation's sliding inference.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from gfnet_dense.utils.types import Size

BAND_BYTES = 2**30  # of logits resized at once
BAND_ROWS = 64  # of an image that slides, given back at once


def windows(length: int, window: int, stride: int) -> list[tuple[int, int]]:
    """Return (start, end) of windows that cover an axis; the last one ends where the axis does."""
    count = max(length - window + stride - 1, 0) // stride + 1
    ends = [min(i * stride + window, length) for i in range(count)]
    return [(max(end - window, 0), end) for end in ends]


def slide(
    predict: Callable[[tuple[slice, slice]], Tensor], size: Size, window: Size, stride: Size
) -> Iterator[Tensor]:
    """Yield the logits of an image from top to bottom, averaged where windows overlap.

    No more rows are kept than a window has.

    Args:
        predict: Returns the logits (num_classes, h, w) of a window, given as slices of rows and
            columns.
        size: Of the image, (H, W).
        window: Its size (h, w); smaller images make smaller windows.
        stride: From window to window, (vertical, horizontal), at most the window's size.

    Yields:
        Logits (num_classes, rows, W) of the next rows, until all are there.
    """
    (H, W), total, top = size, None, 0
    rows = windows(H, window[0], stride[0])
    columns = windows(W, window[1], stride[1])
    for i, (y1, y2) in enumerate(rows):
        for x1, x2 in columns:
            logits = predict((slice(y1, y2), slice(x1, x2)))
            if total is None:
                total = logits.new_zeros(len(logits), y2 - y1, W)
                count = logits.new_zeros(y2 - y1, W)
            total[:, y1 - top :, x1:x2] += logits
            count[y1 - top :, x1:x2] += 1
        following = rows[i + 1][0] if i + 1 < len(rows) else H
        done = following - top
        for sums, times in zip(
            total[:, :done].split(BAND_ROWS, dim=1), count[:done].split(BAND_ROWS), strict=True
        ):
            yield sums / times
        kept, top = len(count) - done, following
        for plane in (*total, count):  # one by one: a copy of all is as large as the window's row
            plane[:kept] = plane[done:].clone()
            plane[kept:] = 0


def labels_of(logits: Tensor, threshold: float | None = None) -> Tensor:
    """Return the labels (..., H, W) of logits (..., num_classes, H, W).

    Args:
        logits: Of one class: of being it.
        threshold: Of the probability of a single class, from which on it is there.
    """
    if logits.shape[-3] > 1:
        return logits.argmax(dim=-3)
    return (logits.squeeze(-3).sigmoid() > threshold).long()


def resized_labels(
    logits: Tensor, size: Size, align_corners: bool, threshold: float | None = None
) -> Tensor:
    """Return the labels of bilinearly resized logits, which exist for a band of rows at a time.

    Args:
        logits: (num_classes, h, w).
        size: (H, W) wanted.
        align_corners: Of :func:`torch.nn.functional.interpolate`.
        threshold: See :func:`labels_of`.

    Returns:
        (H, W). Where all fits into one band they are those of ``interpolate`` itself; in bands
        rounding may decide differently between equal logits.
    """
    (_, h, _), (H, W) = logits.shape, size
    rows = max(BAND_BYTES // (len(logits) * W * logits.element_size()), 1)
    if rows >= H:
        resized = F.interpolate(
            logits[None], size=(H, W), mode="bilinear", align_corners=align_corners
        )
        return labels_of(resized[0], threshold)
    bands = []
    places = torch.arange(H, dtype=torch.float64, device=logits.device)
    if align_corners:
        places = places * ((h - 1) / max(H - 1, 1))
    else:
        places = ((places + 0.5) * (h / H) - 0.5).clamp(min=0)
    for part in places.split(rows):
        above = part.long().clamp(max=h - 1)
        below = (above + 1).clamp(max=h - 1)
        weight = (part - above).to(logits.dtype)[:, None]
        band = torch.lerp(logits[:, above], logits[:, below], weight)
        band = F.interpolate(
            band[None], size=(len(part), W), mode="bilinear", align_corners=align_corners
        )
        bands.append(labels_of(band[0], threshold))
    return torch.cat(bands)
