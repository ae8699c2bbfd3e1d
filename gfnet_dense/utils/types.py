"""Types that many modules share."""

Size = tuple[int, int]  # (H, W)
