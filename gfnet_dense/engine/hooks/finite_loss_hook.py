"""Numbers that are not finite: kept out of the weights, and traced to the module they come from."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

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

# What the matching of queries (Mask2Former, DINO) says to costs that are not finite: SciPy's
MATCHER_ERROR = "invalid numeric entries"


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Keep numbers that are not finite out of the weights, and stop where they stay.

    A step of the optimizer whose loss or gradients are not finite is left out, in all processes;
    what layers counted meanwhile (statistics of batch norms) is put back. After several such steps
    in a row training stops, and tells which module was the first to give numbers that are not
    finite. Under mixed precision gradients may overflow until the loss scaler has found its scale:
    those do not count. Models with several optimizers (mmengine's OptimWrapperDict) are not
    watched: they step on their own.

    Args:
        patience: After how many steps in a row.
    """

    priority = "HIGH"  # before the hook that saves checkpoints

    def __init__(self, patience: int = 5):
        self.patience = patience
        self.in_a_row = 0

    def before_train(self, runner: Runner) -> None:
        self.buffers = [b for b in runner.model.buffers() if b.is_floating_point()]
        self.good_buffers = [b.clone() for b in self.buffers]
        self.suspect = None  # the first batch since the last step whose loss was not finite
        self._guard(runner.optim_wrapper)
        loop = runner.train_loop
        loop.run_iter = self._explaining(runner, loop.run_iter)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        self.is_finite, self.left_out = True, False

    def _guard(self, wrapper: OptimWrapper) -> None:
        """Let an optimizer look at losses and gradients: before it clips them, which may hide
        what is not finite."""
        update_params, step = wrapper.update_params, wrapper.step

        def guarded_update(loss: Tensor, *args, **kwargs) -> None:
            self.is_finite = self.is_finite and bool(loss.detach().isfinite().all())
            update_params(loss, *args, **kwargs)

        def guarded_step(**kwargs) -> None:
            is_bad = not self.is_finite or self.suspect is not None
            is_bad = is_bad or not (_scaler_helps(wrapper) or _has_finite_gradients(wrapper))
            self.left_out = _in_any_process(is_bad)
            self.in_a_row = self.in_a_row + 1 if self.left_out else 0
            if not self.left_out:
                step(**kwargs)

        wrapper.update_params, wrapper.step = guarded_update, guarded_step

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None):
        if self.is_finite:
            sources, targets = self.buffers, self.good_buffers
        else:
            sources, targets = self.good_buffers, self.buffers
            self.suspect = self.suspect or data_batch
        if sources:
            torch._foreach_copy_(targets, sources)
        runner.message_hub.update_info(NOT_FINITE, self.in_a_row)
        if not self.left_out:
            return
        suspect, self.suspect = self.suspect or data_batch, None
        runner.logger.warning(
            f"iteration {runner.iter + 1} has a loss or gradients that are not finite: its step is "
            "left out"
        )
        if self.in_a_row >= self.patience:
            context = runner.optim_wrapper.optim_context(runner.model)
            found = all_gather_object(first_not_finite(runner.model, suspect, context))
            module = next(filter(None, found), "none of the modules: the loss or its gradient")
            reason = f"the loss or its gradients were not finite {self.in_a_row} times in a row"
            raise _stopped(runner, reason, module)

    def _explaining(self, runner: Runner, run_iter: Callable) -> Callable:
        """Say what is behind the error of a matcher, which comes before there is a loss."""

        def run(*args) -> None:
            try:
                run_iter(*args)
            except ValueError as e:
                if MATCHER_ERROR not in str(e):
                    raise
                module = "known where one process trains alone"
                if not is_distributed():  # the other processes would not take part
                    context = runner.optim_wrapper.optim_context(runner.model)
                    module = first_not_finite(runner.model, args[-1], context)
                raise _stopped(runner, "what the head matches is not finite", module) from e

        return run


def _stopped(runner: Runner, reason: str, module: str | None) -> InputError:
    rate = max(lr for lrs in runner.optim_wrapper.get_lr().values() for lr in lrs)
    last = runner.message_hub.get_info("last_ckpt")
    return InputError(
        f"training stopped at iteration {runner.iter + 1}: {reason}, at a learning rate of "
        f"{rate:.3g}; the first output that is not finite is that of {module}; the last checkpoint "
        f"before is {last or 'none'}: check the data, or take a lower learning rate"
    )


def _has_finite_gradients(wrapper: OptimWrapper) -> bool:
    parameters = [p for group in wrapper.optimizer.param_groups for p in group["params"]]
    gradients = [p.grad for p in parameters if p.grad is not None]
    return not gradients or bool(torch.nn.utils.get_total_norm(gradients).isfinite())


def _scaler_helps(wrapper: OptimWrapper) -> bool:
    """Tell whether a loss scaler leaves out a step that overflows, and takes a lower scale."""
    scaler = getattr(wrapper, "loss_scaler", None)
    is_fixed = getattr(wrapper, "_scale_update_param", None) is not None
    return scaler is not None and scaler.is_enabled() and not is_fixed and scaler.get_scale() > 1


def _in_any_process(flag: bool) -> bool:
    flags = torch.tensor(float(flag), device=get_device())
    all_reduce(flags, "max")
    return bool(flags)


def first_not_finite(
    model: nn.Module, data_batch: dict, context: AbstractContextManager | None = None
) -> str | None:
    """Return the name of the module whose output, in a training step, is not finite first.

    Args:
        model: The model that is trained.
        data_batch: As the dataloader gives it.
        context: In which the forward runs, such as autocast.
    """
    model = model.module if is_model_wrapper(model) else model
    found, handles = [], []

    def check(name: str):
        def hook(module, args, output) -> None:
            if not found and not all(t.isfinite().all() for t in _tensors_of(output)):
                found.append(f"{name} ({type(module).__name__})")

        return hook

    for name, module in model.named_modules():
        if name:
            handles.append(module.register_forward_hook(check(name)))
    try:
        with torch.no_grad(), context or nullcontext():
            data = model.data_preprocessor(data_batch, True)
            model._run_forward(data, mode="loss")
    except ValueError:  # of a matcher, behind the module in question
        if not found:
            raise
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def _tensors_of(output) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, dict):
        yield from _tensors_of(list(output.values()))
    elif isinstance(output, (list, tuple)):
        for each in output:
            yield from _tensors_of(each)
