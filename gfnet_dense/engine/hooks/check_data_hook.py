"""Checks of the images and annotations while they are loaded, and of a sample of images before."""

import logging
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from gfnet_dense.datasets.checks.bands import check_bands
from gfnet_dense.datasets.checks.batches import check_evaluated_sizes
from gfnet_dense.datasets.checks.evaluated_masks import check_evaluated_masks
from gfnet_dense.datasets.checks.ignored_labels import ignore_index_of
from gfnet_dense.datasets.checks.images import check_images
from gfnet_dense.datasets.checks.objects import check_objects
from gfnet_dense.datasets.loading_guards import guard_pipeline, inner_datasets
from gfnet_dense.registry import HOOKS
from gfnet_dense.utils.channels import Channels, channels_of
from gfnet_dense.utils.decoding import check_image_range
from gfnet_dense.utils.errors import InputError


@HOOKS.register_module()
class CheckDataHook(Hook):
    """Hook that makes the loading of a broken image or annotation raise InputError with its path.

    See :func:`gfnet_dense.datasets.loading_guards.guard_pipeline`. A sample of the images is
    checked before, see :func:`gfnet_dense.datasets.checks.images.check_images`. DenseRunner adds
    the hook to every run.
    """

    def __init__(self) -> None:
        self._trained: dict | None = None  # metainfo of the data of the checkpoint that was loaded

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep what the checkpoint tells of the data that it was trained on."""
        self._trained = checkpoint.get("meta", {}).get("dataset_meta")

    def before_train(self, runner: Runner) -> None:
        """Guard and check the datasets of training and validation.

        Raises:
            InputError: If the images cannot be used or have another number of bands than the model
                takes, if a detector has no objects, or if the datasets differ in ``image_range``.
        """
        datasets = [runner.train_dataloader.dataset]
        check_objects(datasets[0])
        if runner.val_loop is not None:
            datasets.append(runner.val_dataloader.dataset)
        for dataset in datasets:
            guard_pipeline(dataset, _ignored(runner))
            check_images(dataset)
            check_bands(dataset, _channels(runner))
        if runner.val_loop is not None:
            check_evaluated_sizes(runner.val_dataloader, _preprocessor(runner))
        first, *others = [each for dataset in datasets for each in inner_datasets(dataset)]
        for other in others:
            _check_same_range(first.metainfo, other.metainfo)

    def before_val(self, runner: Runner) -> None:
        """Guard the dataset of a validation without a training."""
        guard_pipeline(runner.val_dataloader.dataset, _ignored(runner))

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """Check that the first batch has the masks that the evaluator measures."""
        if batch_idx == 0:
            check_evaluated_masks(runner.val_evaluator.metrics, outputs)

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """Check that the first batch has the masks that the evaluator measures."""
        if batch_idx == 0:
            check_evaluated_masks(runner.test_evaluator.metrics, outputs)

    def before_test(self, runner: Runner) -> None:
        """Guard the dataset of testing, and log a warning if its images are almost black.

        Raises:
            InputError: If the checkpoint was trained on data of another ``image_range``, or images
                have another number of bands than the model takes.
        """
        dataset = runner.test_dataloader.dataset
        guard_pipeline(dataset, _ignored(runner))
        if self._trained is not None:
            for inner in inner_datasets(dataset):
                _check_same_range(self._trained, inner.metainfo)
        check_bands(dataset, _channels(runner))
        try:
            check_images(dataset)
        except InputError as e:
            print_log(str(e), logger="current", level=logging.WARNING)


def _channels(runner: Runner) -> Channels | None:
    """Return the bands that the model takes, None if that is not known."""
    return channels_of(getattr(runner, "model", None))


def _ignored(runner: Runner) -> int | None:
    """Return ``ignore_index`` of the head that predicts, None without one."""
    model = (getattr(runner, "cfg", None) or {}).get("model")
    return ignore_index_of(model.get("module", model)) if model else None  # with --tta


def _preprocessor(runner: Runner) -> Any:
    """Return the data_preprocessor of the model, None if it has none."""
    model = getattr(runner, "model", None)
    return getattr(getattr(model, "module", model), "data_preprocessor", None)


def _check_same_range(trained: dict, evaluated: dict) -> None:
    """Raise InputError if the data that are evaluated have another ``image_range``."""
    first, second = (check_image_range(each.get("image_range")) for each in (trained, evaluated))
    if first != second:
        raise InputError(
            f"image_range is {first} in the metainfo of the training data and {second} in that of "
            "the data to evaluate: set the same in all datasets of the config"
        )
