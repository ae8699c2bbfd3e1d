"""mmengine's Runner with a readable console, and with checks that checkpoints are whole and fit.

Private attributes of mmengine's Runner are used here, as seen in onedl-mmengine 0.10.12.
"""

import io
import logging
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import broadcast_object_list, is_distributed, is_main_process
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel, is_model_wrapper, revert_sync_batchnorm
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from gfnet_dense.checkpoint.loading import check_dtypes, mismatch_error, unwrap, use_safe_loading
from gfnet_dense.datasets.seeded import with_seeds
from gfnet_dense.engine.hooks.average_statistics_hook import AverageStatisticsHook
from gfnet_dense.engine.hooks.seed_hook import SeedHook
from gfnet_dense.models.utils.state_dict import describe_arch
from gfnet_dense.utils.atomic_write import atomic_replace
from gfnet_dense.utils.errors import InputError, building

from . import resume_checks
from .resuming import check_same_start

# Log messages that only the log file gets: the environment, the whole config, a line for every
# parameter, and warnings for developers of OpenMMLab's libraries.
NOISE = re.compile(
    r"paramwise_options -- |Hooks will be executed in the following order|\s*-{20,}\s*System env"
    r"|\s*Config:\s|\"FileClient\" will be deprecated|\"HardDiskBackend\" is the alias"
    r"|The prefix is not set in metric class|per class results:$|Exp name: "
)


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
        if self.distributed and not torch.cuda.is_available() and not is_distributed():
            torch.distributed.init_process_group("gloo")
        super().setup_env(env_cfg)
        check_same_start(self.cfg)

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
        return super().build_train_loop(loop)

    @staticmethod
    def build_dataloader(*args: Any, **kwargs: Any) -> DataLoader:
        """Build a dataloader, or raise an InputError that says why it cannot be built."""
        with building("the data of the config"):
            return Runner.build_dataloader(*args, **kwargs)

    def build_param_scheduler(self, *args: Any, **kwargs: Any) -> list | dict[str, list]:
        """Build the schedulers, or raise an InputError that says why they cannot be built."""
        with building("the param_scheduler of the config"):
            return super().build_param_scheduler(*args, **kwargs)

    def register_hooks(self, *args: Any, **kwargs: Any) -> None:
        """Register the hooks of the config, SeedHook, and AverageStatisticsHook on CPUs."""
        super().register_hooks(*args, **kwargs)
        self.register_hook(SeedHook())
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
        except OSError as e:
            failure = e.strerror or str(e)
        finally:
            if is_main_process():
                Path(out_dir, part).unlink(missing_ok=True)
        failures = [failure]
        broadcast_object_list(failures)  # from the main process, so that all stop or none
        if failures[0]:
            raise InputError(
                f"{Path(out_dir, filename)} could not be written ({failures[0]}); the checkpoint "
                "before it is whole: when there is room, the same command with --resume goes on "
                "from there"
            )

    def load_checkpoint(
        self, filename: str, map_location: Any = "cpu", strict: bool = False, **kwargs: Any
    ) -> dict:
        """Load a checkpoint into the model.

        Where names or shapes differ, mmengine would warn and go on with random weights.

        Raises:
            InputError: If the checkpoint does not fit the model; to resume, also if the other
                parts of it do not fit the training.
        """
        strict = strict or self._train_loop is None or self._resume
        try:
            with redirect_stdout(io.StringIO()):  # mmengine's loader prints
                checkpoint = super().load_checkpoint(filename, map_location, strict, **kwargs)
        except RuntimeError as e:
            # PyTorch lists the mismatches of names and shapes below the first line.
            if not strict or len(str(e).splitlines()) < 2:
                raise
            raise mismatch_error(filename, e) from None
        model = self.model.module if is_model_wrapper(self.model) else self.model
        check_dtypes(model, checkpoint.get("state_dict", checkpoint), filename)
        if not strict:
            self._check_loaded(model, filename, checkpoint)
        elif self._resume:
            self._check_resumed(filename, checkpoint)
        # When it resumes, mmengine would execute the config's text that the checkpoint holds.
        checkpoint.get("meta", {}).pop("config", None)
        return checkpoint

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Resume the training from a checkpoint.

        Raises:
            InputError: If the state in the checkpoint does not fit this training.
        """
        try:
            super().resume(filename, *args, **kwargs)
        except InputError:
            raise
        except (AssertionError, AttributeError, LookupError, TypeError, ValueError) as e:
            reason = (str(e).splitlines() or [type(e).__name__])[0]
            raise InputError(
                f"{filename} cannot be resumed from ({reason}): it is of another model, optimizer "
                "or schedule, or damaged; give it as load_from to start a new training from its "
                "weights"
            ) from e

    def _check_resumed(self, filename: str, checkpoint: dict) -> None:
        if not resume_checks.PARTS <= set(checkpoint):
            raise InputError(
                f"{filename} holds weights only, nothing to resume from: give it as load_from to "
                "start a new training from them"
            )
        resume_checks.check_progress(checkpoint["meta"], self._train_loop)
        resume_checks.check_hub(checkpoint["message_hub"])
        if isinstance(self.optim_wrapper, OptimWrapper):
            resume_checks.check_optimizer(checkpoint["optimizer"], self.optim_wrapper)
        if isinstance(self.param_schedulers, list) and "param_schedulers" in checkpoint:
            own = [scheduler.state_dict() for scheduler in self.param_schedulers]
            resume_checks.check_like(checkpoint["param_schedulers"], own, "param_schedulers")

    def _check_loaded(self, model: nn.Module, filename: str, checkpoint: dict) -> None:
        given = checkpoint.get("state_dict", checkpoint)
        if not set(given) & set(model.state_dict()):
            raise InputError(
                f"nothing in {filename} fits the model; weights of a backbone belong into its "
                "init_cfg=dict(type='Pretrained', checkpoint=...)"
            )
        found = describe_arch(unwrap(checkpoint))
        expected = getattr(model.backbone, "arch_shape", found)
        if found not in (None, expected):
            raise InputError(
                f"{filename} was trained with another backbone: its dims and depths are {found}, "
                f"those of the config {expected}"
            )


def build_runner(cfg: Config) -> DenseRunner:
    """Return the runner of a config; it reads checkpoints without executing code from them.

    Raises:
        InputError: If the runner cannot be built from the config.
    """
    use_safe_loading()
    with building("the config"):
        return DenseRunner.from_cfg(cfg)
