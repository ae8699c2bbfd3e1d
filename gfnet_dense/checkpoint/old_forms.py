"""Names of tensors in checkpoints of mmsegmentation 0.x, mmdetection 2.x and Swin's own code.

Most heads kept their names when these became mmsegmentation 1.x and mmdetection 3.x. The two parts
that changed are listed in :data:`FORMS`:

- Swin's own code, on which most published Swin segmentors and detectors were trained, names its
  blocks otherwise than OpenMMLab, and concatenates the four pixels that a patch merging joins
  where OpenMMLab unfolds them.
- The Mask2Former head of mmdetection 2.x numbers the attentions of a layer in the order in which
  they are computed: in the decoder, cross-attention is the first.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from gfnet_dense.utils.errors import InputError


def unfold_order(tensor: Tensor) -> Tensor:
    """Bring the channels of a patch merging from Swin's order into that of ``nn.Unfold``.

    Swin concatenates the pixels (row, column) = (0, 0), (1, 0), (0, 1), (1, 1), each with all of
    its C channels; ``nn.Unfold`` has for each channel its pixels row by row.

    Args:
        tensor: (..., 4 * C), a weight or bias; of any other size it is not changed.

    Returns:
        (..., 4 * C), the same numbers.
    """
    if tensor.ndim == 0 or tensor.shape[-1] % 4:
        return tensor  # of another model, which is refused by its shape
    pixels = tensor.unflatten(-1, (2, 2, tensor.shape[-1] // 4))  # column, row, channel
    return pixels.transpose(-1, -3).flatten(-3)


class Rule(NamedTuple):
    """A change of names: a pattern for parts of a name, and what replaces them.

    Attributes:
        pattern: Regular expression, which matches from the beginning of a part of the name.
        replacement: Template for the text that matches.
        change: Change of the tensor, if its numbers are in another order.
    """

    pattern: str
    replacement: str
    change: Callable[[Tensor], Tensor] | None = None


class Form(NamedTuple):
    """Older names of a part of a model.

    Attributes:
        label: Origin of the names, for reports.
        marker: End of a name that every model with this part has, and no other.
        rules: The names that changed.
    """

    label: str
    marker: str
    rules: tuple[Rule, ...]


FORMS = (
    Form(
        "Swin's own code",
        ".attn.w_msa.relative_position_bias_table",
        (
            Rule(r"patch_embed\.proj\.", "patch_embed.projection."),
            Rule(r"layers\.(\d+\.blocks\.\d+\.norm[12]\.)", r"stages.\1"),
            Rule(r"layers\.(\d+\.blocks\.\d+\.attn\.)", r"stages.\1w_msa."),
            Rule(r"layers\.(\d+\.blocks\.\d+\.)mlp\.fc1\.", r"stages.\1ffn.layers.0.0."),
            Rule(r"layers\.(\d+\.blocks\.\d+\.)mlp\.fc2\.", r"stages.\1ffn.layers.1."),
            Rule(r"layers\.(\d+\.downsample\.)", r"stages.\1", unfold_order),
        ),
    ),
    Form(
        "Mask2Former in mmdetection 2.x",
        ".query_feat.weight",
        (
            Rule(r"(pixel_decoder\.encoder\.layers\.\d+\.)attentions\.0\.", r"\1self_attn."),
            Rule(r"(pixel_decoder\.encoder\.layers\.\d+\.)ffns\.0\.", r"\1ffn."),
            Rule(r"(transformer_decoder\.layers\.\d+\.)attentions\.0\.", r"\1cross_attn."),
            Rule(r"(transformer_decoder\.layers\.\d+\.)attentions\.1\.", r"\1self_attn."),
            Rule(r"(transformer_decoder\.layers\.\d+\.)ffns\.0\.", r"\1ffn."),
        ),
    ),
)


def in_new_form(
    state_dict: dict[str, Tensor], expected: Collection[str]
) -> tuple[dict[str, Tensor], tuple[str, ...], tuple[str, ...]]:
    """Give the tensors of an older form the names that a model expects.

    A name changes only if the model does not have it and has the new one, and if no other tensor
    of the file has the new one. All others stay, so that a tensor too many is still seen; only the
    buffers of mmcv's EMAHook are left out.

    Args:
        state_dict: Tensors by name; it is not changed.
        expected: Names of the model's tensors; empty if the model is not known.

    Returns:
        The tensors in the same order, the names of those left out, and notes for the report.
    """
    own = set(expected)
    forms = [form for form in FORMS if any(name.endswith(form.marker) for name in own)]
    left_out = sorted(_ema_buffers(state_dict) - own)
    result: dict[str, Tensor] = OrderedDict()
    counts = dict.fromkeys((form.label for form in forms), 0)
    for name, tensor in state_dict.items():
        for form in forms if name not in own else ():
            new, changed = _changed(name, tensor, form.rules)
            if new in own and new not in state_dict and new not in result:
                name, tensor = new, changed
                counts[form.label] += 1
                break
        result[name] = tensor
    for name in left_out:
        del result[name]
    if isinstance(metadata := getattr(state_dict, "_metadata", None), dict):
        result._metadata = metadata  # type: ignore[attr-defined]
    notes = [f"{count} names of {label} changed" for label, count in counts.items() if count]
    if left_out:
        notes.append("the buffers of mmcv's EMAHook are a second set of weights, not used")
    return result, tuple(left_out), tuple(notes)


def _changed(name: str, tensor: Tensor, rules: tuple[Rule, ...]) -> tuple[str, Tensor]:
    """Return the name and the tensor after the first rule that matches; unchanged without one."""
    for rule in rules:
        new, count = re.subn(rf"(?<![^.]){rule.pattern}", rule.replacement, name)
        if count == 1:
            return new, rule.change(tensor) if rule.change else tensor
    return name, tensor


def _ema_buffers(names: Collection[str]) -> set[str]:
    """Return the names of the buffers that the EMAHook of mmcv 1.x has added to a model.

    They are a second set of weights. ``backbone.norm0.weight`` is the one of the two with which
    mmsegmentation 0.x and mmdetection 2.x tested, ``ema_backbone_norm0_weight`` the other.
    """
    return {f"ema_{name.replace('.', '_')}" for name in names}.intersection(names)


def describe_origin(meta: dict[str, Any]) -> tuple[str, ...]:
    """Return a note for the report if mmsegmentation 0.x or mmdetection 2.x wrote the file.

    Args:
        meta: The ``meta`` of the file.
    """
    origins = (("mmsegmentation", "mmseg_version"), ("mmdetection", "mmdet_version"))
    return tuple(
        f"written by {name} {version}" for name, key in origins if (version := _version(meta, key))
    )


def check_detector(meta: dict[str, Any], names: Collection[str], path: str | Path) -> None:
    """Check that a detector was not trained by mmdetection 1.x.

    Its background was the first class instead of the last, and its boxes were a pixel wider: with
    equal names and shapes the results would be wrong. See "Compatibility with MMDetection 1.x" in
    https://github.com/open-mmlab/mmdetection/blob/v2.28.2/docs/en/compatibility.md.

    Args:
        meta: The ``meta`` of the file.
        names: Names of the tensors that are wanted; a backbone alone is not concerned.
        path: The file, for messages.

    Raises:
        InputError: If the names are of a detector and the file is of mmdetection 0.x or 1.x.
    """
    version = _version(meta, "mmdet_version")
    is_detector = any("bbox_head" in name.split(".") for name in names)
    if is_detector and version.startswith(("0.", "1.")):
        raise InputError(
            f"{path} is a detector of mmdetection {version}, which numbered classes and measured "
            "boxes differently: detectors of mmdetection 2.0 or later are accepted; of this file "
            "the backbone can be taken, with init_cfg=dict(type='Pretrained', checkpoint=...)"
        )


def _version(meta: dict[str, Any], key: str) -> str:
    """Return the first two numbers of a version in ``meta``, '' if there is none.

    mmdetection 2.x appended the hash of a commit without a sign between: ``2.24.1c76ab0e``.
    """
    found = re.match(r"\d+\.\d+", str(meta.get(key, "")))
    return found[0] if found else ""
