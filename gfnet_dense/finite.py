"""Numbers that are not finite: kept out of the weights, and traced to the module they come from."""

from collections.abc import Iterator

import torch
from mmengine.device import get_device
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from .errors import InputError
from .registry import HOOKS
from .resume import NOT_FINITE


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Keep numbers that are not finite out of the weights, and stop where they stay.

    A step whose gradients are not finite is left out, and what the layers counted meanwhile
    (statistics of batch norms) is put back. After several such losses in a row training stops, and
    tells which module was the first to give numbers that are not finite.

    Args:
        patience: After how many losses in a row.
    """

    priority = "HIGH"  # before the hook that saves checkpoints

    def __init__(self, patience: int = 5):
        self.patience = patience
        self.in_a_row = 0

    def before_train(self, runner: Runner) -> None:
        self.buffers = [b for b in runner.model.buffers() if b.is_floating_point()]
        self.good_buffers = [b.clone() for b in self.buffers]
        for optimizer in _optimizers(runner.optim_wrapper):
            optimizer.register_step_pre_hook(self._check_gradients)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        self.left_out = False

    def _check_gradients(self, optimizer: torch.optim.Optimizer, args, kwargs) -> None:
        """Make a step do nothing: parameters without gradient are passed over."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        gradients = [p.grad for p in parameters if p.grad is not None]
        if gradients and not torch.isfinite(torch.nn.utils.get_total_norm(gradients)):
            self.left_out = True
            for parameter in parameters:
                parameter.grad = None

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None):
        finite = torch.isfinite(torch.as_tensor(outputs["loss"]).detach().float()).all()
        bad = (~finite | self.left_out).float().to(get_device())
        all_reduce(bad, "max")  # all processes stop, or none
        self.in_a_row = self.in_a_row + 1 if bad else 0
        runner.message_hub.update_info(NOT_FINITE, self.in_a_row)
        if not bad:
            _copy(self.buffers, self.good_buffers)
            return
        _copy(self.good_buffers, self.buffers)
        runner.logger.warning(
            f"iteration {runner.iter + 1} has a loss or gradients that are not finite: its step is "
            "left out"
        )
        if self.in_a_row < self.patience:
            return
        module = first_not_finite(runner.model, data_batch)
        rate = max(lr for lrs in runner.optim_wrapper.get_lr().values() for lr in lrs)
        last = runner.message_hub.get_info("last_ckpt")
        raise InputError(
            f"training stopped at iteration {runner.iter + 1}: the loss or its gradients were not "
            f"finite {self.in_a_row} times in a row, at a learning rate of {rate:.3g}; the first "
            f"output that is not finite is that of {module}; the last checkpoint before is "
            f"{last or 'none'}: check the data, or take a lower learning rate"
        )


def _copy(sources: list[Tensor], targets: list[Tensor]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.copy_(source)


def _optimizers(optim_wrapper) -> list[torch.optim.Optimizer]:
    wrappers = getattr(optim_wrapper, "optim_wrappers", {"": optim_wrapper}).values()
    return [wrapper.optimizer for wrapper in wrappers]


def first_not_finite(model: nn.Module, data_batch: dict) -> str:
    """Return the name of the module whose output, in a training step, is not finite first."""
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
        with torch.no_grad():
            data = model.data_preprocessor(data_batch, True)
            model._run_forward(data, mode="loss")
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else "none of the modules: the loss or its gradient"


def _tensors_of(output) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, dict):
        yield from _tensors_of(list(output.values()))
    elif isinstance(output, (list, tuple)):
        for each in output:
            yield from _tensors_of(each)
