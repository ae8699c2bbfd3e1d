"""Types that many modules share."""

Size = tuple[int, int]  # (H, W)

# Words for mixed precision: a dtype, or the one that PyTorch takes for the device
AMP = ("auto", "float16", "bfloat16")
