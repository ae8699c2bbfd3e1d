"""mmengine's Runner with a readable console, and with checks that checkpoints are whole and fit.

Private attributes of mmengine's Runner are used here, as seen in onedl-mmengine 0.10.12.
"""

import logging
import re
from collections.abc import Sequence, Sized
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.logging import MMLogger
from mmengine.model import (
    BaseTTAModel,
    MMDistributedDataParallel,
    is_model_wrapper,
    revert_sync_batchnorm,
)
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from gfnet_dense.checkpoint.classes import check_classes
from gfnet_dense.checkpoint.contents import find_weights
from gfnet_dense.checkpoint.loading import load_partly, load_whole
from gfnet_dense.checkpoint.safe_loading import read, safe_loading
from gfnet_dense.datasets.checks import batches
from gfnet_dense.datasets.coco.loading import checked_coco
from gfnet_dense.datasets.metainfo import join_metainfo
from gfnet_dense.datasets.seeded import with_seeds
from gfnet_dense.engine.hooks.average_statistics_hook import AverageStatisticsHook
from gfnet_dense.engine.hooks.check_data_hook import CheckDataHook
from gfnet_dense.engine.hooks.resume_hook import ResumeHook
from gfnet_dense.engine.hooks.seed_hook import SeedHook
from gfnet_dense.utils.atomic_write import atomic_replace
from gfnet_dense.utils.errors import InputError, building
from gfnet_dense.utils.users_code import places_in_users_code

from . import batch_norm, continuing, resume_checks
from .epochs import skip_batches
from .labels import with_labels_alone
from .resuming import BEGINNING, check_same_start, join_processes
from .setting_checks import check_optimizer_names, doubtful_settings
from .trackers import check_trackers

# Log messages that only the log file gets: the environment, the whole config, a line for every
# parameter, and warnings for developers of OpenMMLab's libraries.
NOISE = re.compile(
    r"paramwise_options -- |Hooks will be executed in the following order|\s*-{20,}\s*System env"
    r"|\s*Config:\s|\"FileClient\" will be deprecated|\"HardDiskBackend\" is the alias"
    r"|The prefix is not set in metric class|per class results:$|Exp name: "
    r"|\S+ is skipped since its requires_grad=False|\S+ is duplicate\. It is skipped since"
)

# The error of mmengine's BaseDataset without images, which NumPy raises
NO_IMAGE = "need at least one array to concatenate"


class DenseRunner(Runner):
    """mmengine's Runner for the commands of this project.

    The main differences from mmengine's Runner:

    - The console leaves out messages that only the log file needs.
    - A checkpoint gets its name after it is written completely.
    - Random numbers depend on the seed and the place in the training alone, see
      :mod:`gfnet_dense.datasets.seeded`.
    - A checkpoint that does not fit raises an InputError. To test or to resume, all of it has to
      fit the model; to fine-tune (``load_from``), its backbone has to be of the same arch.
    - Distributed training runs on CPUs, too, with gloo, and all processes must start from the same
      checkpoint.
    """

    _train_dataloader: DataLoader | dict
    saves_alone = False  # whether the main process saves a checkpoint without the others
    _differences: list[str] = []  # between the checkpoint to resume from and the config

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build the logger, and filter the messages on the console."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(lambda record: not NOISE.match(record.getMessage()))
        return logger

    def setup_env(self, env_cfg: dict) -> None:
        """Set up the environment; without a GPU a distributed run uses the gloo backend.

        Raises:
            InputError: If the processes would start from different checkpoints.
        """
        join_processes(self._launcher, env_cfg)
        super().setup_env(env_cfg)
        resumed = self.cfg.get("load_from") if self.cfg.get("resume") else None
        check_same_start(Path(resumed).name if resumed else BEGINNING)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap the model for a distributed run, on CPUs too; mmengine wraps it for GPUs alone."""
        if not self.distributed or torch.cuda.is_available() or model_wrapper_cfg is not None:
            return super().wrap_model(model_wrapper_cfg, model)
        return MMDistributedDataParallel(
            revert_sync_batchnorm(model),  # PyTorch has SyncBatchNorm for GPUs only
            broadcast_buffers=False,
            find_unused_parameters=self.cfg.get("find_unused_parameters", False),
        )

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the loop with samples whose random numbers depend on their place alone."""
        if isinstance(self._train_dataloader, dict):
            with building("the data of the config"):
                self._train_dataloader = with_seeds(self._train_dataloader)
        with checked_coco(self.cfg, "train"), building("the train_cfg of the config"):
            built = super().build_train_loop(loop)
        batch_norm.check_batches(self.model, built.dataloader)
        return built

    def train(self) -> nn.Module:
        """Train; a batch that is too small for a batch norm raises an InputError."""
        with batch_norm.explained(), batches.explained(), safe_loading():
            return super().train()

    def val(self) -> dict:
        """Validate, with checkpoints read as data."""
        with batches.explained(), safe_loading():
            return super().val()

    def test(self) -> dict:
        """Test, with checkpoints read as data."""
        with batches.explained(), safe_loading():
            return super().test()

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build the model, which may read checkpoints itself: they are read as data."""
        with safe_loading():
            return super().build_model(model)

    @staticmethod
    def build_dataloader(dataloader: DataLoader | dict, *args: Any, **kwargs: Any) -> DataLoader:
        """Build a dataloader; where there is a GPU, batches wait in memory that it reads directly.

        Raises:
            InputError: If it cannot be built, or would load nothing.
        """
        if isinstance(dataloader, dict):
            dataloader = {"pin_memory": torch.cuda.is_available(), **dataloader}
        with building("the data of the config"):
            try:
                loader = Runner.build_dataloader(dataloader, *args, **kwargs)
            except ValueError as e:
                if str(e) != NO_IMAGE:
                    raise
                raise InputError(
                    "the data of the config hold no image: look at their ann_file and filter_cfg, "
                    "and at metainfo.classes, without whose objects filter_empty_gt leaves out all"
                ) from None
        join_metainfo(loader.dataset)
        if isinstance(loader.dataset, Sized) and len(loader) == 0:
            raise InputError(
                f"there are {len(loader.dataset)} images, fewer than the batch_size of the "
                "dataloader, and drop_last=True leaves them all out: set a smaller batch_size"
            )
        return loader

    def build_val_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the validation loop, and check the COCO files that it reads."""
        with checked_coco(self.cfg, "val"):
            built = super().build_val_loop(loop)
        return with_labels_alone(self, built)

    def build_test_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the test loop, and check the COCO files that it reads."""
        with checked_coco(self.cfg, "test"):
            built = super().build_test_loop(loop)
        return with_labels_alone(self, built)

    def build_optim_wrapper(self, *args: Any, **kwargs: Any) -> OptimWrapper | OptimWrapperDict:
        """Build the optimizer, or raise an InputError that says why it cannot be built."""
        check_optimizer_names(self.optim_wrapper)
        with building("the optim_wrapper of the config"):
            return super().build_optim_wrapper(*args, **kwargs)

    def build_param_scheduler(self, *args: Any, **kwargs: Any) -> list | dict[str, list]:
        """Build the schedulers, or raise an InputError that says why they cannot be built."""
        with building("the param_scheduler of the config"):
            return super().build_param_scheduler(*args, **kwargs)

    def register_hooks(self, *args: Any, **kwargs: Any) -> None:
        """Register the hooks of the config and those that exact training and resuming need."""
        super().register_hooks(*args, **kwargs)
        self.register_hook(SeedHook())
        if not any(isinstance(hook, CheckDataHook) for hook in self.hooks):
            self.register_hook(CheckDataHook())
        self.register_hook(ResumeHook())
        if self.distributed and not torch.cuda.is_available():
            self.register_hook(AverageStatisticsHook())

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        """Save a checkpoint under a temporary name, then rename it.

        The disk may become full, or the process may be killed, while it is written.

        Raises:
            InputError: In all processes, if the main process cannot write it.
        """
        part, failure = f".{filename}.part", None
        try:
            super().save_checkpoint(out_dir, part, *args, **kwargs)
            if is_main_process():
                atomic_replace(Path(out_dir, part), Path(out_dir, filename))
        except Exception as e:
            failure = e
        finally:
            if is_main_process():
                Path(out_dir, part).unlink(missing_ok=True)
        reasons = [None if failure is None else getattr(failure, "strerror", None) or str(failure)]
        if not self.saves_alone:
            broadcast_object_list(reasons)  # from the main process, so that all stop or none
        if isinstance(failure, Exception) and (
            not isinstance(failure, OSError) or places_in_users_code(failure)
        ):
            raise failure
        if reasons[0] is not None:
            raise InputError(
                f"{Path(out_dir, filename)} could not be written ({reasons[0]}); the checkpoint "
                "before it is whole: when there is room, the same command with --resume goes on "
                "from there"
            ) from failure

    def load_checkpoint(
        self,
        filename: str,
        map_location: Any = "cpu",
        strict: bool = False,
        revise_keys: Sequence[tuple[str, str]] = (),
    ) -> dict:
        """Load a checkpoint into the model, and log what was loaded.

        The form of the file is found by :func:`.find_weights`. To test or to resume, all weights
        have to fit; to test, the classes have to be in the order of the data as well. To start from
        the file (``load_from``), most of the backbone has to fit, see :func:`.load_partly`.
        mmengine would go on with random weights where names or shapes differ.

        Args:
            filename: File or address, see :func:`gfnet_dense.checkpoint.safe_loading.read`.
            map_location: Device on which the file is read.
            strict: Whether all weights have to fit in any case.
            revise_keys: Pairs (pattern, replacement) of regular expressions for the names.

        Returns:
            The content of the file; its ``state_dict`` has the names of the model.

        Raises:
            InputError: If the checkpoint does not fit the model; to resume, also if the other
                parts of it do not fit the training.
        """
        strict = strict or self._train_loop is None or self._resume
        model = self.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        checkpoint, path = read(filename, map_location)
        weights = find_weights(checkpoint, path, model.state_dict())
        for pattern, replacement in revise_keys:
            named = {re.sub(pattern, replacement, k): v for k, v in weights.state_dict.items()}
            weights = replace(weights, state_dict=named)
        checkpoint["state_dict"] = weights.state_dict  # where hooks look for it, and may change it
        try:
            self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        except RuntimeError as e:
            if places_in_users_code(e):
                raise
            reason = str(e).splitlines()[-1].strip()
            raise InputError(f"{path} does not fit the hooks of the config: {reason}") from e
        weights = replace(weights, state_dict=checkpoint["state_dict"])
        if self._train_loop is None:
            check_classes(weights.meta, self._classes(), path)
        (load_whole if strict else load_partly)(model, weights, path)
        if self._resume:
            self._check_resumed(filename, checkpoint)
        self._has_loaded = True
        # When it resumes, mmengine would execute the config's text that the checkpoint holds.
        checkpoint.get("meta", {}).pop("config", None)
        return checkpoint

    def _classes(self) -> Sequence[str] | None:
        """Return the classes of the data that are tested or validated."""
        for loop in (self._test_loop, self._val_loop):
            if isinstance(loop, BaseLoop):
                metainfo = getattr(loop.dataloader.dataset, "metainfo", None) or {}
                return metainfo.get("classes")
        return None

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Resume the training from a checkpoint; see :mod:`.continuing` where the config differs.

        Raises:
            InputError: If the state in the checkpoint does not fit this training.
        """
        try:
            super().resume(filename, *args, **kwargs)
        except InputError:
            raise
        except (AssertionError, AttributeError, LookupError, TypeError, ValueError) as e:
            if places_in_users_code(e):  # a hook or optimizer of the user
                raise
            reason = (str(e).splitlines() or [type(e).__name__])[0]
            raise InputError(
                f"{filename} cannot be resumed from ({reason}): it is of another model, optimizer "
                "or schedule, or damaged; give it as load_from to start a new training from its "
                "weights"
            ) from e
        if isinstance(self.train_loop, EpochBasedTrainLoop):
            skip_batches(self.train_loop)
        self._log_differences(Path(filename).name)

    def _log_differences(self, name: str) -> None:
        lines, self._differences = self._differences, []
        is_epochs = isinstance(self.train_loop, EpochBasedTrainLoop)
        if (self.epoch >= self.max_epochs) if is_epochs else (self.iter >= self.max_iters):
            self.logger.warning(
                f"nothing is left to train: {name} is of the end that the config sets, a larger "
                f"train_cfg.max_{'epochs' if is_epochs else 'iters'} goes on from it"
            )
        if lines:
            self.logger.warning(continuing.describe(name, lines))

    def _check_resumed(self, filename: str, checkpoint: dict) -> None:
        if not resume_checks.PARTS <= set(checkpoint):
            raise InputError(
                f"{filename} holds weights only, nothing to resume from: give it as load_from to "
                "start a new training from them"
            )
        self._differences = continuing.fit(checkpoint, self)
        metainfo = getattr(self.train_dataloader.dataset, "metainfo", None) or {}
        check_classes(checkpoint["meta"], metainfo.get("classes"), filename)


def build_runner(cfg: Config) -> DenseRunner:
    """Return the runner of a config; it reads checkpoints without executing code from them.

    Raises:
        InputError: If the runner cannot be built from the config, or if the package of an
            experiment tracker is missing.
    """
    check_trackers(cfg)
    with building("the config"):
        runner = DenseRunner.from_cfg(cfg)
    for sentence in doubtful_settings(cfg):
        runner.logger.warning(sentence)
    return runner
