"""Logits of windows that slide over an image, placed as in mmsegmentation's ``slide_inference``."""

from collections.abc import Callable, Iterator

from torch import Tensor

from gfnet_dense.utils.types import Size

BAND_ROWS = 64  # maximum number of rows that slide() yields at once


def windows(length: int, window: int, stride: int) -> list[tuple[int, int]]:
    """Return (start, end) of the windows that cover an axis of ``length`` pixels.

    Neighbors are ``stride`` pixels apart, except the last window, which ends where the axis ends.
    """
    count = max(length - window + stride - 1, 0) // stride + 1
    ends = [min(i * stride + window, length) for i in range(count)]
    return [(max(end - window, 0), end) for end in ends]


def slide(
    predict: Callable[[list[tuple[slice, slice]]], Tensor],
    size: Size,
    window: Size,
    stride: Size,
    batch_size: int = 1,
) -> Iterator[Tensor]:
    """Yield the logits of an image in bands from top to bottom, averaged where windows overlap.

    At any time, the logits of at most as many rows are in memory as a window has.

    Args:
        predict: Function that takes windows of one size, as slices of rows and columns, and returns
            their logits (number of windows, num_classes, h, w).
        size: Size of the image, (H, W).
        window: Size of the window, (h, w); it is cut to the size of a smaller image.
        stride: Vertical and horizontal distance between windows, at most the size of the window.
        batch_size: Maximum number of windows, of one row, that are predicted at once.

    Yields:
        Logits (num_classes, rows, W) of the next 1 to ``BAND_ROWS`` rows, which add up to H.
    """
    H, W = size
    rows = windows(H, window[0], stride[0])
    columns = windows(W, window[1], stride[1])
    # Sum of the logits (num_classes, h, W) and number of windows (h, W), for the rows from top on
    total: Tensor | None = None
    top = 0
    for i, (y1, y2) in enumerate(rows):
        row = [(slice(y1, y2), slice(x1, x2)) for x1, x2 in columns]
        for first in range(0, len(row), batch_size):
            batch = row[first : first + batch_size]
            for (_, x), logits in zip(batch, predict(batch), strict=True):
                if total is None:  # the first window tells num_classes, dtype and device
                    total = logits.new_zeros(len(logits), y2 - y1, W)
                    count = logits.new_zeros(y2 - y1, W)
                total[:, y1 - top :, x] += logits
                count[y1 - top :, x] += 1
        assert total is not None  # an axis has at least one window
        following = rows[i + 1][0] if i + 1 < len(rows) else H
        done = following - top
        for sums, times in zip(
            total[:, :done].split(BAND_ROWS, dim=1), count[:done].split(BAND_ROWS), strict=True
        ):
            yield sums / times
        kept, top = len(count) - done, following
        for plane in (*total, count):  # one at a time, so that the copy below stays small
            plane[:kept] = plane[done:].clone()
            plane[kept:] = 0
