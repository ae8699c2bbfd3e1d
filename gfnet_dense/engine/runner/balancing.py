"""Settings of a training for classes with few pixels."""

from collections.abc import Sequence

from mmengine.config import Config
from mmengine.dataset import ConcatDataset
from mmengine.registry import DefaultScope

from gfnet_dense.datasets.checks.datasets import class_names
from gfnet_dense.datasets.checks.ignored_labels import ignore_index_of
from gfnet_dense.datasets.checks.segmentation_heads import find_heads, losses_of, num_outputs
from gfnet_dense.datasets.rare_classes import class_weights, count_pixels
from gfnet_dense.datasets.survey.segmentation import build_dataset
from gfnet_dense.utils.config import datasets_of, type_name
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.tables import format_table


def balance(cfg: Config, means: Sequence[str]) -> str:
    """Set means against rare classes in the config of a training, in place.

    'weights' are class weights of the cross entropy, from the pixels of each class in the training
    data (:func:`.class_weights`); with one output channel, the weight of the foreground relative to
    the background. 'lovasz' adds mmsegmentation's LovaszLoss (https://arxiv.org/abs/1705.08790),
    whose terms have the same weight for each class of a batch, with the weight of the cross
    entropy. 'sampler' sets ``gfnet_dense.RareClassSampler``.

    Args:
        cfg: A config of mmsegmentation.
        means: Any of :data:`gfnet_dense.utils.types.BALANCE`.

    Returns:
        A table of the classes with their shares and weights.

    Raises:
        InputError: If the config is of another library, if its heads have no cross entropy over
            classes, or if pixels cannot be counted.
    """
    if cfg.default_scope != "mmseg":
        raise InputError(
            "--balance is for segmentation; for detectors wrap the dataset of the training in "
            "mmengine's ClassBalancedDataset, see docs/own_data.md"
        )
    counts = _count(cfg)
    weights = class_weights(counts)
    for name, head in find_heads(cfg.model):
        head.loss_decode = _balanced_losses(name, head, weights, means)
    if "sampler" in means:
        cfg.train_dataloader.sampler = dict(type="gfnet_dense.RareClassSampler")
    names = class_names(next(datasets_of(cfg, "train")), "mmseg")
    rows = [["class", "pixels", *(["weight"] if "weights" in means else [])]]
    for name, count, weight in zip(names, counts, weights, strict=True):
        row = [name, f"{count / max(1, sum(counts)):.2%}", f"{weight:.3g}"]
        rows.append(row[: len(rows[0])])
    return format_table(rows, markdown=False)


def _count(cfg: Config) -> list[int]:
    """Return the number of pixels of each class in the training data of a config."""
    ignored = ignore_index_of(cfg.model)
    with DefaultScope.overwrite_default_scope("mmseg"):
        built = [build_dataset(each, ignored) for each in datasets_of(cfg, "train")]
    return count_pixels(ConcatDataset(built) if len(built) > 1 else built[0]).sum(0).tolist()


def _balanced_losses(
    name: str, head: dict, weights: list[float], means: Sequence[str]
) -> list[dict] | dict:
    """Return the losses of a head with weights or a further term."""
    losses = losses_of(head) or [dict(type="CrossEntropyLoss")]  # a head's default
    entropy = next((loss for loss in losses if type_name(loss) == "CrossEntropyLoss"), None)
    if entropy is None or "loss_cls" in head:  # the head of Mask2Former counts masks, not pixels
        raise InputError(
            f"--balance changes the CrossEntropyLoss of a head, and {name}, {type_name(head)}, has "
            "none over the classes of pixels: take a head that has, such as UPerHead"
        )
    is_binary = num_outputs(head) == 1
    if "weights" in means:
        entropy["class_weight"] = [weights[1] / weights[0]] if is_binary else weights
        if not is_binary:
            # The mean is over labeled pixels then, and mmsegmentation (1.4.2) fails with both.
            entropy.pop("avg_non_ignore", None)
    if "lovasz" in means and not any(type_name(loss) == "LovaszLoss" for loss in losses):
        losses.append(
            dict(
                type="LovaszLoss",
                loss_type="binary" if is_binary else "multi_class",
                reduction="none",  # a mean over images needs per_image
                loss_weight=entropy.get("loss_weight", 1.0),
            )
        )
    return losses if len(losses) > 1 else losses[0]
