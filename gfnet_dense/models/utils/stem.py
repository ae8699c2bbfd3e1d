"""The stem of a backbone, its first convolution, for images of other than three bands."""

from torch import Tensor

from gfnet_dense.utils.errors import InputError

RGBChannels = tuple[int, int, int]

# Names of the stem's weight: in the hierarchical and in the isotropic GFNets, and in HorNets
STEMS = ("patch_embed.0.proj.weight", "patch_embed.proj.weight", "downsample_layers.0.0.weight")


def stem_channels(state_dict: dict[str, Tensor], prefix: str = "") -> int | None:
    """Return for how many input channels the stem in a state dict is; None if it has no stem."""
    for name in STEMS:
        weight = state_dict.get(prefix + name)
        if weight is not None and weight.ndim == 4:
            return weight.shape[1]
    return None


def adapt_stem(
    state_dict: dict[str, Tensor], prefix: str, in_channels: int, rgb_channels: RGBChannels | None
) -> None:
    """Adapt a stem of three channels, red, green and blue, to another number of them, in place.

    Args:
        state_dict: Weights; only keys that begin with ``prefix`` are touched.
        prefix: Prefix of the model's keys, such as ``'backbone.'``.
        in_channels: Number of channels of the model. A stem that has as many does not change.
        rgb_channels: See :func:`expand`.

    Raises:
        InputError: If the stem is for a number of channels that is neither 3 nor ``in_channels``.
    """
    given = stem_channels(state_dict, prefix)
    if given is None or given == in_channels:
        return
    if given != 3:
        raise InputError(
            f"the stem is for images of {given} bands, the backbone has in_channels={in_channels}: "
            f"set in_channels={given}; only a stem of three channels is adapted to other numbers"
        )
    for name in STEMS:
        if prefix + name in state_dict:
            state_dict[prefix + name] = expand(state_dict[prefix + name], in_channels, rgb_channels)


def expand(weight: Tensor, in_channels: int, rgb_channels: RGBChannels | None) -> Tensor:
    """Return the weight of a stem of red, green and blue for another number of channels.

    The bands in ``rgb_channels`` get the weights of red, green and blue, the others the mean of the
    three. All are scaled by 3 / in_channels, so that the response to gray, equal values in all
    bands, stays the same. Repeating and scaling as here is usual in timm's models as well
    (``adapt_input_conv`` in https://github.com/huggingface/pytorch-image-models).

    Args:
        weight: (dim, 3, height, width), of any floating-point dtype.
        in_channels: The number of channels.
        rgb_channels: Which of them are red, green and blue; None if that is not known: all get the
            mean.

    Returns:
        (dim, in_channels, height, width), of the same dtype.
    """
    exact = weight.double()
    expanded = exact.mean(dim=1, keepdim=True).repeat(1, in_channels, 1, 1)
    if rgb_channels is not None:
        expanded[:, list(rgb_channels)] = exact
    return (expanded * (3 / in_channels)).to(weight.dtype)


def describe_expansion(in_channels: int, rgb_channels: RGBChannels | None) -> str:
    """Return in words what :func:`expand` does."""
    scaled = f"scaled by 3/{in_channels}"
    if in_channels == 1:
        return "3 -> 1 channels, the sum of red, green and blue"
    if rgb_channels is None:
        hint = "" if in_channels == 2 else " (rgb_channels is not set)"
        return f"3 -> {in_channels} channels, each the mean of red, green and blue{hint}, {scaled}"
    places = ", ".join(map(str, rgb_channels))
    return f"3 -> {in_channels} channels, RGB at {places}, the others from their mean, {scaled}"
