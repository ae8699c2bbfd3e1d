"""Checks that the heads of a segmentor fit the classes of its datasets, and its losses the outputs.

With numbers that do not fit, mmsegmentation trains without an error and ends at an mIoU of 0, or it
fails with a message about something else. Behavior as seen in onedl-mmsegmentation 1.4.2; the table
in docs/input.md is made by trainings.
"""

from collections.abc import Iterator
from typing import Any

from mmengine.config import ConfigDict

from gfnet_dense.utils.config import type_name
from gfnet_dense.utils.errors import InputError

# Heads whose num_classes is not that of the dataset: STDCHead tells boundaries from the rest.
OTHER_CLASSES = {"STDCHead"}
# Losses that cannot train a single output channel, and why.
NEEDS_CHANNELS = {
    "DiceLoss": "trains a single channel to find class 0, the opposite of what is predicted",
    "TverskyLoss": "takes the softmax of a single channel, which is always 1",
    "HuasdorffDisstanceLoss": "skips the first channel",
}


def check_heads(model: ConfigDict, classes: list[str]) -> None:
    """Check the number of classes, the outputs and the losses of all heads of a segmentor.

    Args:
        model: Config of the segmentor.
        classes: Class names of the dataset.

    Raises:
        InputError: If there is a single class, if ``num_classes`` or ``class_weight`` of a head is
            for another number, or if a loss cannot train the output channels of its head.
    """
    heads = list(find_heads(model))
    if heads and len(classes) == 1:
        raise InputError(
            f"a single class needs its background: with classes={classes} alone each pixel is "
            f"{classes[0]!r} and there is nothing to learn; set "
            f"classes=['background', {classes[0]!r}] and num_classes=2, and let the label maps "
            f"hold 0 for the background and 1 for {classes[0]!r}"
        )
    for name, head in heads:
        _check_num_classes(name, head, classes)
        _check_losses(name, head, classes)
    last = model.get("decode_head")
    if isinstance(last, (list, tuple)) and num_outputs(last[-1]) == 1:
        raise InputError(
            f"model.decode_head[{len(last) - 1}] has one output channel, which mmsegmentation can "
            "train but not predict with in a list of heads: set out_channels to 2, the losses to "
            "use_sigmoid=False"
        )


def check_losses_on_cpu(model: ConfigDict) -> None:
    """Raise InputError if a loss of a segmentor can train on a GPU alone."""
    for name, head in find_heads(model):
        # Without a GPU it takes target[:, num_classes] where target[:, :num_classes] is meant.
        if num_outputs(head) != 1 and "FocalLoss" in map(type_name, losses_of(head)):
            raise InputError(
                f"{name}: mmsegmentation's FocalLoss fails on a CPU with several classes, and no "
                "GPU was found: take CrossEntropyLoss"
            )


def find_heads(model: ConfigDict) -> Iterator[tuple[str, ConfigDict]]:
    """Yield dotted key and config of each head of a segmentor, also of heads inside heads."""
    for key in ("decode_head", "auxiliary_head"):
        yield from _find_heads(model.get(key), f"model.{key}")


def _find_heads(node: Any, name: str) -> Iterator[tuple[str, ConfigDict]]:
    if isinstance(node, (list, tuple)):
        for i, each in enumerate(node):
            yield from _find_heads(each, f"{name}[{i}]")
    elif isinstance(node, dict):
        if "num_classes" in node and type_name(node) not in OTHER_CLASSES:
            yield name, node
        for key, value in node.items():
            yield from _find_heads(value, f"{name}.{key}")


def num_outputs(head: dict) -> int | None:
    """Return the number of output channels of a head, None if its config does not say."""
    return head.get("out_channels") or head.get("num_classes")


def losses_of(head: dict) -> list[dict]:
    """Return the configs of the losses of a head, one or several."""
    losses = head.get("loss_decode", [])
    return list(losses) if isinstance(losses, (list, tuple)) else [losses]


def _check_num_classes(name: str, head: dict, classes: list[str]) -> None:
    # Mask2Former's loss has a weight for each class and one for "no object".
    loss_cls = head.get("loss_cls")
    weights = loss_cls.get("class_weight") if isinstance(loss_cls, dict) else None
    if isinstance(weights, (list, tuple)) and len(weights) != len(classes) + 1:
        raise InputError(
            f"{name}.loss_cls.class_weight has {len(weights)} weights, but there are "
            f'{len(classes)} classes and "no object": set it to [1.0] * {len(classes)} + [0.1], '
            f"and num_classes to {len(classes)}"
        )
    # A head for two classes may have a single output, with a sigmoid.
    value = head["num_classes"]
    if value != len(classes) and ((value, len(classes)) != (1, 2) or loss_cls is not None):
        raise InputError(
            f"{name}.num_classes is {value}, but the dataset has {len(classes)} classes "
            f"({', '.join(classes[:3])}{', ...' if len(classes) > 3 else ''}): "
            f"set it to {len(classes)}"
        )


def _check_losses(name: str, head: dict, classes: list[str]) -> None:
    if "loss_cls" in head:  # of Mask2Former and MaskFormer, whose outputs are masks
        return
    outputs, threshold = num_outputs(head), head.get("threshold")
    if outputs == 1 and len(classes) != 2:
        raise InputError(
            f"{name}.out_channels is 1, which tells two classes apart, but the dataset has "
            f"{len(classes)}: leave it out"
        )
    if outputs == 1 and threshold is not None and not 0 < threshold < 1:
        raise InputError(
            f"{name}.threshold is compared with a probability, between 0 and 1, got {threshold}: "
            "without it, it is 0.3"
        )
    for loss in losses_of(head) or [dict(type="CrossEntropyLoss")]:  # a head's default
        reason = _wrong_weights(loss, outputs) or _why_not(loss, outputs)
        if reason:
            raise InputError(f"{name}: {reason}")


def _wrong_weights(loss: dict, outputs: int | None) -> str | None:
    """Return what is wrong with the weights of classes in a loss, None if they fit."""
    for key in ("class_weight", "alpha"):  # alpha is FocalLoss's, a number or one for each class
        weights = loss.get(key)
        if isinstance(weights, (list, tuple)) and outputs and len(weights) != outputs:
            return (
                f"{key} of {type_name(loss)} has {len(weights)} weights for {outputs} output "
                f"channels: give {outputs}, or leave it out"
            )
    return None


def _why_not(loss: dict, outputs: int | None) -> str | None:
    """Return why a loss cannot train a number of output channels, None if it can or is unknown."""
    kind = type_name(loss)
    binary = loss.get("loss_type") == "binary"
    if kind == "LovaszLoss" and binary != (outputs == 1):
        wanted = "'binary'" if outputs == 1 else "'multi_class'"
        return (
            f"LovaszLoss of {outputs} output channels needs loss_type={wanted}, "
            f"got {loss.get('loss_type', 'multi_class')!r}"
        )
    if outputs != 1:
        return None
    if kind == "CrossEntropyLoss" and not loss.get("use_sigmoid"):
        return (
            "one output channel needs loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True), "
            "since the softmax of a single channel is always 1; or set num_classes=2 and leave out "
            "out_channels"
        )
    if kind in NEEDS_CHANNELS:
        return (
            f"{kind} cannot train one output channel, it {NEEDS_CHANNELS[kind]}: set num_classes=2 "
            "and leave out out_channels"
        )
    return None
