"""Numbers that are not finite: kept out of the weights, and traced to a module.

Private names of mmengine's models and AmpOptimWrapper, and torch._foreach_copy_, are used here, as
seen in onedl-mmengine 0.10.12 and PyTorch 2.13.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import all_gather_object, all_reduce, is_distributed
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from gfnet_dense.engine.state_keys import NOT_FINITE
from gfnet_dense.registry import HOOKS
from gfnet_dense.utils.errors import InputError

# Part of SciPy's error for costs that are not finite. Mask2Former and DINO match their queries
# with scipy.optimize.linear_sum_assignment.
MATCHER_ERROR = "invalid numeric entries"


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Hook that skips optimizer steps whose loss or gradients are not finite.

    A step that is bad in one process is skipped in all. With it, the buffers that the forward
    changed (batch norm statistics) get the values back that they had after the last step. After
    ``patience`` skipped steps in a row training stops with an InputError, which names the first
    module whose output is not finite.

    The losses are checked where they are, and the host waits for the device once, just before the
    step: a backward of a loss that is not finite does no harm, since its gradients are dropped.

    Under mixed precision gradients may overflow until the loss scaler has found its scale. The
    scaler skips such steps itself; they are not counted. Models with several optimizers (mmengine's
    OptimWrapperDict) are not watched: they call the wrapper of each optimizer directly.

    Args:
        patience: Number of skipped steps in a row after which training stops.
    """

    priority = "HIGH"  # before CheckpointHook

    left_out: bool | None  # whether this iteration's step was skipped; None without a step
    # Since the last step, which may be several iterations ago under gradient accumulation:
    finite: list[Tensor]  # a flag for each loss, on its device
    batches: list[Any]
    buffers: list[Tensor]
    good_buffers: list[Tensor]  # copies of the buffers after the last step that was not skipped

    def __init__(self, patience: int = 5) -> None:
        self.patience = patience
        self.in_a_row = 0

    def before_train(self, runner: Runner) -> None:
        """Copy the buffers, and wrap the optimizer's methods and the iteration of the loop."""
        self.buffers = [b for b in runner.model.buffers() if b.is_floating_point()]
        self.good_buffers = [b.clone() for b in self.buffers]
        self.finite, self.batches = [], []
        self._guard(runner.optim_wrapper)
        loop = runner.train_loop
        loop.run_iter = self._explaining(runner, loop.run_iter)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | tuple | list | None = None
    ) -> None:
        """Forget the iteration before."""
        self.left_out = None

    def _guard(self, wrapper: OptimWrapper) -> None:
        """Check each loss, and skip the step if one or a gradient is not finite.

        The gradients are checked before the wrapper clips them, since clipping may hide infinity.
        """
        update_params, step = wrapper.update_params, wrapper.step

        def guarded_update(loss: Tensor, *args: Any, **kwargs: Any) -> None:
            self.finite.append(loss.detach().isfinite().all())
            update_params(loss, *args, **kwargs)

        def checked_step(**kwargs: Any) -> None:
            flags = [*self.finite, *_gradients_are_usable(wrapper)]
            flags = flags or [torch.ones((), dtype=torch.bool, device=get_device())]
            self.left_out = not _in_all_processes(torch.stack(flags).all())
            self.in_a_row = self.in_a_row + 1 if self.left_out else 0
            if not self.left_out:
                step(**kwargs)

        def guarded_step(**kwargs: Any) -> None:
            if torch.compiler.is_compiling():  # compile=True of mmengine: no step is in a graph
                torch.compiler.disable(checked_step)(**kwargs)
            else:
                checked_step(**kwargs)

        wrapper.update_params, wrapper.step = guarded_update, guarded_step

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | tuple | list | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Restore or copy the buffers, and stop after too many skipped steps.

        Between steps a loss that is not finite puts the buffers back as well, for averages of them
        and validations.

        Raises:
            InputError: If this is the last of ``patience`` skipped steps in a row.
        """
        if self.finite:  # several optimizers leave no flags, and make no steps that are seen here
            self.batches.append(data_batch)
        if self.left_out is None:
            self._restore_after_bad_loss()
        elif self.buffers:
            both = [self.good_buffers, self.buffers]
            target, source = both[::-1] if self.left_out else both
            torch._foreach_copy_(target, source)
        runner.message_hub.update_info(NOT_FINITE, self.in_a_row)
        if self.left_out is None:
            return
        batches, self.finite, self.batches = self.batches, [], []
        if not self.left_out:
            return
        runner.logger.warning(
            f"iteration {runner.iter + 1} has a loss or gradients that are not finite: its step is "
            "left out"
        )
        if self.in_a_row >= self.patience:
            # In all batches: each forward may wait for that of the other processes.
            context, model = runner.optim_wrapper.optim_context, runner.model
            modules = [first_not_finite(model, each, context(model)) for each in batches]
            found = [name for names in all_gather_object(modules) for name in names if name]
            reason = f"the loss or its gradients were not finite {self.in_a_row} times in a row"
            raise _stopped(runner, reason, _describe(next(iter(found), None)))

    def _restore_after_bad_loss(self) -> None:
        """Put the buffers back if a loss since the last step was not finite, without asking."""
        if self.finite and self.buffers:
            is_good = torch.stack(self.finite).all()
            pairs = zip(self.buffers, self.good_buffers, strict=True)
            torch._foreach_copy_(self.buffers, [torch.where(is_good, b, g) for b, g in pairs])

    def _explaining(self, runner: Runner, run_iter: Callable[..., None]) -> Callable[..., None]:
        """Return ``run_iter`` with an InputError in place of a matcher's error.

        A matcher fails inside the forward, before there is a loss that could be checked.
        """

        def run(*args: Any) -> None:
            try:
                run_iter(*args)
            except ValueError as e:
                if MATCHER_ERROR not in str(e):
                    raise
                culprit = "the module is only searched for where one process trains alone"
                if not is_distributed():  # the other processes would not take part
                    context = runner.optim_wrapper.optim_context(runner.model)
                    batch = args[-1]
                    culprit = _describe(first_not_finite(runner.model, batch, context))
                raise _stopped(runner, "what the head matches is not finite", culprit) from e

        return run


def _describe(module: str | None) -> str:
    """Return the part of the error about the first module whose output is not finite, if any."""
    if module is None:
        return (
            "none of the modules has an output that is not finite: the loss or its gradient is so"
        )
    return f"the first output that is not finite is that of {module}"


def _stopped(runner: Runner, reason: str, culprit: str) -> InputError:
    """Return the error with which training stops."""
    rate = max(lr for lrs in runner.optim_wrapper.get_lr().values() for lr in lrs)
    last = runner.message_hub.get_info("last_ckpt")
    return InputError(
        f"training stopped at iteration {runner.iter + 1}: {reason}, at a learning rate of "
        f"{rate:.3g}; {culprit}; the last checkpoint "
        f"before is {last or 'none'}: check the data, or take a lower learning rate"
    )


def _gradients_are_usable(wrapper: OptimWrapper) -> Iterator[Tensor]:
    """Yield a flag: whether gradients are finite, or a loss scaler takes care of them.

    A dynamic loss scaler skips a step that overflows, as long as it can lower its scale.
    """
    parameters = [p for group in wrapper.optimizer.param_groups for p in group["params"]]
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return
    is_finite = torch.nn.utils.get_total_norm(gradients).isfinite()
    scaler = getattr(wrapper, "loss_scaler", None)
    is_fixed = getattr(wrapper, "_scale_update_param", None) is not None
    if scaler is None or not scaler.is_enabled() or is_fixed:
        yield is_finite
    else:  # get_scale() would wait for the device
        yield is_finite | (scaler.scale(torch.ones_like(is_finite, dtype=torch.float32)) > 1)


def _in_all_processes(flag: Tensor) -> bool:
    """Return whether a flag is set in all processes; this waits for the device."""
    flags = flag.float()
    all_reduce(flags, "min")
    return bool(flags)


def first_not_finite(
    model: nn.Module, data_batch: Any, context: AbstractContextManager | None = None
) -> str | None:
    """Return the first module whose output is not finite in the forward of a training step.

    Args:
        model: The model in training, possibly inside DistributedDataParallel.
        data_batch: A batch as the dataloader yields it.
        context: Context of the forward, such as autocast.

    Returns:
        Name and class of the module, ``"backbone.norm0 (LayerNorm)"``; None if all outputs are
        finite.
    """
    inner: Any = model.module if is_model_wrapper(model) else model  # a BaseModel of mmengine
    found: list[str] = []
    handles = []

    def check(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if not found and not all(t.isfinite().all() for t in _tensors_of(output)):
                found.append(f"{name} ({type(module).__name__})")

        return hook

    for name, module in inner.named_modules():
        if name:
            handles.append(module.register_forward_hook(check(name)))
    try:
        with torch.no_grad(), context or nullcontext():
            data = inner.data_preprocessor(data_batch, True)
            inner._run_forward(data, mode="loss")
    except ValueError:  # raised by a matcher, which runs after the module in question
        if not found:
            raise
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def _tensors_of(output: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested dicts, lists and tuples."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, dict):
        yield from _tensors_of(list(output.values()))
    elif isinstance(output, (list, tuple)):
        for each in output:
            yield from _tensors_of(each)
