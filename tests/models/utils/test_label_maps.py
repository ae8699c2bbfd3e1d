import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.overrides import TorchFunctionMode

from gfnet_dense.models.utils import label_maps
from gfnet_dense.models.utils.label_maps import (
    cropped,
    flipped,
    label_map,
    labels_of,
    resized,
    rows_of,
    streamed_rows,
)


@pytest.fixture
def bands_of_three_rows(monkeypatch):
    """Return a function after which a map of logits is made three rows at a time."""

    def limit(classes, width, itemsize):
        monkeypatch.setattr(label_maps, "BAND_BYTES", classes * width * itemsize * 3)
        monkeypatch.setattr(label_maps, "WHOLE_BYTES", 0)

    return limit


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(37, 50), (8, 9), (5, 4), (1, 7), (100, 3), (32, 150), (16, 150)])
@pytest.mark.parametrize("classes", [6, 1])
def test_labels_computed_in_bands_equal_those_of_the_whole_map(
    size, align_corners, classes, bands_of_three_rows
):
    torch.manual_seed(0)
    logits = torch.randn(classes, 8, 9, dtype=torch.float64)
    whole = F.interpolate(logits[None], size, mode="bilinear", align_corners=align_corners)[0]
    expected = labels_of(whole, 0.4)
    rows = resized(rows_of(logits), size, align_corners)
    assert torch.equal(label_map(rows, 0.4), expected)
    bands_of_three_rows(classes, size[1], 8)
    assert torch.equal(label_map(rows, 0.4), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("factor", [1, 2, 4, 16])
@pytest.mark.parametrize("width", [129, 144, 250])
@pytest.mark.parametrize("channels_last", [False, True])
def test_bands_of_maps_enlarged_by_powers_of_two_are_those_of_the_whole_bit_for_bit(
    factor, width, dtype, channels_last
):
    torch.manual_seed(0)
    logits = torch.randn(1, 6, 11, 9).to(dtype)
    if channels_last:
        logits = logits.to(memory_format=torch.channels_last)
    size = (11 * factor, width)
    whole = F.interpolate(logits, size, mode="bilinear", align_corners=False)[0]
    rows = resized(rows_of(logits[0]), size, False)
    assert rows.exact
    for start in range(0, size[0], 3):
        for stop in {start + 1, min(start + 7, size[0]), size[0]}:
            assert torch.equal(rows.read(start, stop), whole[:, start:stop])


@pytest.mark.parametrize("size", [(33, 136), (22, 136), (22, 106), (4, 136), (12, 136)])
@pytest.mark.parametrize("align_corners", [False, True])
def test_other_maps_are_made_as_a_whole_up_to_a_limit(size, align_corners, monkeypatch):
    """Their bands would differ by rounding, and labels where classes are almost equal."""
    logits = torch.randn(6, 11, 9)
    rows = resized(rows_of(logits), size, align_corners)
    if (size, align_corners) == ((22, 136), False):
        assert rows.exact
        return
    assert not rows.exact
    read = []
    whole = label_maps.Rows(size, lambda *at: read.append(at) or rows.read(*at), 24, False)
    monkeypatch.setattr(label_maps, "BAND_BYTES", 1)
    monkeypatch.setattr(label_maps, "WHOLE_BYTES", 24 * size[0] * size[1])
    label_map(whole)
    assert read == [(0, size[0])]
    monkeypatch.setattr(label_maps, "WHOLE_BYTES", 24 * size[0] * size[1] - 1)
    label_map(whole)
    assert read[1:] == [(i, i + 1) for i in range(size[0])]


sides = st.integers(1, 40)
edges = st.integers(0, 3)


@settings(max_examples=150, deadline=None)
@given(
    st.tuples(sides, sides), st.tuples(sides, sides), st.tuples(sides, sides),
    st.tuples(edges, edges, edges, edges), st.sampled_from([None, "horizontal", "vertical"]),
    st.booleans(), st.integers(1, 9), st.booleans(),
)  # fmt: skip
def test_resized_cropped_flipped_and_resized_again_equals_the_same_of_whole_maps(
    small, middle, size, padding, direction, align_corners, count, streams
):
    """In float64, in which rounding decides between no two classes here."""
    torch.manual_seed(0)
    logits = torch.randn(3, *small, dtype=torch.float64)
    left, right, top, bottom = padding
    middle = (middle[0] + top + bottom, middle[1] + left + right)
    options = dict(mode="bilinear", align_corners=align_corners)
    whole = F.interpolate(logits[None], middle, **options)
    whole = whole[:, :, top : middle[0] - bottom, left : middle[1] - right]
    if direction:
        whole = whole.flip(3 if direction == "horizontal" else 2)
    whole = F.interpolate(whole, size, **options)[0]
    rows = rows_of(logits)
    if streams:
        rows = streamed_rows(iter(logits.split(2, dim=1)), small)
    rows = cropped(resized(rows, middle, align_corners), padding)
    if direction:
        rows = flipped(rows, direction)
    rows = resized(rows, size, align_corners)
    assert rows.size == size
    parts = [rows.read(i, min(i + count, size[0])) for i in range(0, size[0], count)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-9, atol=1e-9)


def test_a_stream_keeps_no_more_rows_than_were_read_last():
    made = []

    def bands():
        for i in range(50):
            made.append(torch.full((2, 4, 6), float(i)))
            yield made[-1]

    rows = streamed_rows(bands(), (200, 6))
    for start in range(0, 200, 10):
        part = rows.read(start, start + 10)
        assert part[0, :, 0].tolist() == [i // 4 for i in range(start, start + 10)]
        assert len(made) == -(-(start + 10) // 4)
        assert part.untyped_storage().nbytes() <= 4 * 2 * 6 * 24


class NoFloat64(TorchFunctionMode):
    """Refuse tensors of float64 on the model's device, as MPS does."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.device.type == "meta":
            assert result.dtype != torch.float64, func
        return result


def test_bands_need_no_float64_on_the_device(bands_of_three_rows):
    bands_of_three_rows(6, 50, 4)
    with NoFloat64():
        rows = rows_of(torch.zeros(6, 8, 9, device="meta"))
        labels = label_map(resized(rows, (37, 50), False))
    assert labels.shape == (37, 50) and labels.device.type == "meta"


def test_labels_need_argmax_for_many_classes_and_a_threshold_for_one():
    assert labels_of(torch.tensor([[[1.0, 2.0]], [[0.0, 3.0]]])).tolist() == [[0, 1]]
    assert labels_of(torch.tensor([[[-1.0, 1.0]]]), 0.5).tolist() == [[0, 1]]


def test_a_flip_along_both_axes_is_refused():
    with pytest.raises(KeyError, match="diagonal"):
        flipped(rows_of(torch.zeros(2, 3, 3)), "diagonal")
