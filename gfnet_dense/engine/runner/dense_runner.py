"""mmengine's runner, with a readable console, whole checkpoints, and none that fits nothing."""

import io
import logging
import re
from contextlib import redirect_stdout
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dist import broadcast_object_list, is_distributed, is_main_process
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel, is_model_wrapper, revert_sync_batchnorm
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import nn

from gfnet_dense.checkpoint.loading import check_dtypes, mismatch_error, unwrap, use_safe_loading
from gfnet_dense.datasets.seeded import with_seeds
from gfnet_dense.engine.hooks.average_statistics_hook import AverageStatisticsHook
from gfnet_dense.engine.hooks.seed_hook import SeedHook
from gfnet_dense.models.utils.state_dict import describe_arch
from gfnet_dense.utils.atomic_write import atomic_replace
from gfnet_dense.utils.errors import InputError, building

from . import resume_checks
from .resuming import check_same_start

# Environment and config dumps, a line for every parameter, and advice to authors of libraries.
NOISE = re.compile(
    r"paramwise_options -- |Hooks will be executed in the following order|\s*-{20,}\s*System env"
    r"|\s*Config:\s|\"FileClient\" will be deprecated|\"HardDiskBackend\" is the alias"
    r"|The prefix is not set in metric class|per class results:$|Exp name: "
)


class DenseRunner(Runner):
    """mmengine's Runner for this project's commands.

    The console leaves out what only the log file needs. A checkpoint appears under its name when
    it is whole. Random numbers depend on seed and iteration alone, see
    :mod:`gfnet_dense.datasets.seeded`. A checkpoint must fit the model: all of it to test or to
    resume, the backbone's arch to fine-tune (``load_from``).
    """

    def build_logger(self, *args, **kwargs) -> MMLogger:
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(lambda record: not NOISE.match(record.getMessage()))
        return logger

    def setup_env(self, env_cfg: dict) -> None:
        """Without a GPU, let the processes of a distributed run talk by gloo."""
        if self.distributed and not torch.cuda.is_available() and not is_distributed():
            torch.distributed.init_process_group("gloo")
        super().setup_env(env_cfg)
        check_same_start(self.cfg)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap the model for a distributed run; mmengine's wrapping is for GPUs alone."""
        if not self.distributed or torch.cuda.is_available() or model_wrapper_cfg is not None:
            return super().wrap_model(model_wrapper_cfg, model)
        return MMDistributedDataParallel(
            revert_sync_batchnorm(model),  # which PyTorch has for GPUs only
            broadcast_buffers=False,
            find_unused_parameters=self.cfg.get("find_unused_parameters", False),
        )

    def build_train_loop(self, loop):
        """Build the loop with samples that do not depend on what was loaded before."""
        if isinstance(self._train_dataloader, dict):
            with building("the data of the config"):
                self._train_dataloader = with_seeds(self._train_dataloader)
        return super().build_train_loop(loop)

    @staticmethod
    def build_dataloader(*args, **kwargs):
        """Build a dataloader, or say in one sentence why the config's cannot be built."""
        with building("the data of the config"):
            return Runner.build_dataloader(*args, **kwargs)

    def build_param_scheduler(self, *args, **kwargs):
        """Build the schedules, or say in one sentence why the config's cannot be built."""
        with building("the param_scheduler of the config"):
            return super().build_param_scheduler(*args, **kwargs)

    def register_hooks(self, *args, **kwargs) -> None:
        super().register_hooks(*args, **kwargs)
        self.register_hook(SeedHook())
        if self.distributed and not torch.cuda.is_available():
            self.register_hook(AverageStatisticsHook())

    def save_checkpoint(self, out_dir: str, filename: str, *args, **kwargs) -> None:
        """Save under another name first: a disk may be full, a process be killed meanwhile."""
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
        broadcast_object_list(failures)  # of the one that writes: all stop, or none
        if failures[0]:
            raise InputError(
                f"{Path(out_dir, filename)} could not be written ({failures[0]}); the checkpoint "
                "before it is whole: when there is room, the same command with --resume goes on "
                "from there"
            )

    def load_checkpoint(self, filename, map_location="cpu", strict=False, **kwargs) -> dict:
        """Load a checkpoint, or raise InputError where it does not fit.

        mmengine would warn and go on with random weights where names or shapes differ.
        """
        strict = strict or self._train_loop is None or self._resume
        try:
            with redirect_stdout(io.StringIO()):  # a print of mmengine's loader
                checkpoint = super().load_checkpoint(filename, map_location, strict, **kwargs)
        except RuntimeError as e:
            if not strict or len(str(e).splitlines()) < 2:  # not about names and shapes
                raise
            raise mismatch_error(filename, e) from None
        model = self.model.module if is_model_wrapper(self.model) else self.model
        check_dtypes(model, checkpoint.get("state_dict", checkpoint), filename)
        if not strict:
            self._check_loaded(model, filename, checkpoint)
        elif self._resume:
            self._check_resumed(filename, checkpoint)
        # mmengine would execute the text of the config that the file holds.
        checkpoint.get("meta", {}).pop("config", None)
        return checkpoint

    def resume(self, filename: str, *args, **kwargs) -> None:
        """Resume, or say in one sentence why the state of the training does not fit."""
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
    """Return the runner of a config; checkpoints that it reads are data, never code.

    Raises:
        InputError: If the config names what does not exist, or has wrong arguments.
    """
    use_safe_loading()
    with building("the config"):
        return DenseRunner.from_cfg(cfg)
