"""Settings that say which labels do not count, compared: they differ without an error.

mmsegmentation has the same number in many places, 255 by default: in each head and in some losses,
in the metric, in padding, and after ``reduce_zero_label``. The figure of an evaluation is false
where they differ (open-mmlab/mmsegmentation#1747).
"""

import inspect
from collections.abc import Iterator

from mmengine.config import ConfigDict
from mmengine.registry import DATASETS

from gfnet_dense.utils.config import datasets_of, evaluators_of, type_name

from .segmentation_heads import find_heads, losses_of

DEFAULT = 255
# Losses that ignore the index they are built with; all others get that of their head.
WITH_OWN_INDEX = {"DiceLoss", "HuasdorffDisstanceLoss", "TverskyLoss"}


def differing_ignore_indices(
    cfg: ConfigDict, classes: list[str], splits: tuple[str, ...]
) -> list[str]:
    """Return a sentence for each setting of labels to ignore that differs from the head's.

    Args:
        cfg: A whole config of mmsegmentation.
        classes: Class names of the datasets.
        splits: Dataloaders and evaluators to compare, any of 'train', 'val', 'test'.

    Returns:
        Sentences that name both values, and how the difference changes the figure.
    """
    found = ignored_by_head(cfg.model)
    if found is None:
        return []
    name, index = found
    reference = f"{name} is {index}"

    def named(value: int | None) -> str:
        if value is None:
            return "none"
        return repr(classes[value]) if 0 <= value < len(classes) else f"the label {value}"

    sentences = [
        f"{reference} and {key} is {value}: "
        f"the losses leave out different pixels, {named(index)} and {named(value)}"
        for key, value in _of_losses(cfg.model)
        if value != index
    ]
    for key, value in _of_metrics(cfg, splits):
        if value != index:
            sentences.append(
                f"{reference} and {key} is {value}: pixels of {named(index)} are not learned, but "
                f"count in the figure, and pixels of {named(value)} are left out of it; give both "
                "the same value"
            )
    for key, value in _of_padding(cfg, splits):
        if value in (None, index):
            continue
        if value in range(len(classes)):
            how = f"is learned as {named(value)}"
        elif _resizes(cfg):
            how = f"has a label at which the loss stops, {value}"
        else:  # crops are whole, nothing is added
            continue
        sentences.append(
            f"{reference} and {key} is {value}: what is added around a small image {how}; set it "
            f"to {index}"
        )
    return sentences + _of_datasets(cfg, splits, reference, index)


def ignored_by_head(model: ConfigDict) -> tuple[str, int | None] | None:
    """Return key and value of ``ignore_index`` of the head that predicts, None without a head."""
    heads = [head for head in find_heads(model) if head[0].startswith("model.decode_head")]
    if not heads:
        return None
    name, head = heads[-1]  # the last one of a list
    return f"{name}.ignore_index", head.get("ignore_index", DEFAULT)


def ignore_index_of(model: ConfigDict) -> int | None:
    """Return ``ignore_index`` of the head that predicts, None without one."""
    found = ignored_by_head(model)
    return None if found is None else found[1]


def _resizes(cfg: ConfigDict) -> bool:
    """Return whether images of the training may become smaller than the crop."""
    transforms = (each for data in datasets_of(cfg, "train") for each in data.get("pipeline", []))
    return any("Resize" in type_name(each) for each in transforms)


def _of_losses(model: ConfigDict) -> Iterator[tuple[str, int | None]]:
    for name, head in find_heads(model):
        yield f"{name}.ignore_index", head.get("ignore_index", DEFAULT)
        for loss in losses_of(head):
            value, num_classes = loss.get("ignore_index", DEFAULT), head["num_classes"]
            # Without a class to leave out, these losses use no other label at all.
            both = {value, head.get("ignore_index", DEFAULT)}
            if type_name(loss) in WITH_OWN_INDEX and both & set(range(num_classes)):
                yield f"ignore_index of {type_name(loss)} in {name}", value


def _of_metrics(cfg: ConfigDict, splits: tuple[str, ...]) -> Iterator[tuple[str, int | None]]:
    for split in splits:
        for metric in evaluators_of(cfg, split):
            if type_name(metric) == "IoUMetric" or "ignore_index" in metric:
                yield f"{split}_evaluator.ignore_index", metric.get("ignore_index", DEFAULT)


def _of_padding(cfg: ConfigDict, splits: tuple[str, ...]) -> Iterator[tuple[str, int | None]]:
    yield (
        "model.data_preprocessor.seg_pad_val",
        (cfg.model.get("data_preprocessor") or {}).get("seg_pad_val", DEFAULT),
    )
    for dataset in datasets_of(cfg, "train") if "train" in splits else ():
        for transform in dataset.get("pipeline", []):
            pad = transform.get("pad_val")
            value = pad.get("seg") if isinstance(pad, dict) else transform.get("seg_pad_val")
            yield f"the padding of {type_name(transform)} in the training pipeline", value


def _of_datasets(
    cfg: ConfigDict, splits: tuple[str, ...], reference: str, index: int | None
) -> list[str]:
    sentences = []
    reduced: dict[bool, str] = {}
    for split in splits:
        for dataset in datasets_of(cfg, split):
            key = f"{split}_dataloader.dataset"
            given = dataset.get("ignore_index", index)
            if given != index:
                sentences.append(
                    f"{reference} and {key}.ignore_index is {given}: mmsegmentation does not read "
                    "the latter; set ignore_index of the heads and of the metric"
                )
            reduces = _reduces_zero(dataset)
            reduced.setdefault(reduces, key)
            if reduces and index != DEFAULT:
                sentences.append(
                    f"{reference}, but with reduce_zero_label=True of {key} the label 0 becomes "
                    f"{DEFAULT}: set it to {DEFAULT}"
                )
    if len(reduced) == 2:
        sentences.append(
            f"reduce_zero_label is True in {reduced[True]}, but False in {reduced[False]}: the "
            "labels of one are those of the other plus 1"
        )
    return list(dict.fromkeys(sentences))


def _reduces_zero(dataset: ConfigDict) -> bool:
    """Return ``reduce_zero_label`` of a dataset, the default of its class if it is not given."""
    cls = DATASETS.get(dataset["type"]) if isinstance(dataset["type"], str) else dataset["type"]
    given = inspect.signature(cls.__init__).parameters.get("reduce_zero_label")
    return bool(dataset.get("reduce_zero_label", given.default if given else False))
