"""Building the optimizer of a config, and a table of its parameter groups."""

from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from torch.optim import Optimizer

from gfnet_dense.checkpoint.safe_loading import safe_loading
from gfnet_dense.utils.errors import building
from gfnet_dense.utils.scope import default_scope
from gfnet_dense.utils.tables import format_table


def param_group_table(optimizer: Optimizer) -> str:
    """Return a text table with a line for each parameter group of an optimizer.

    Its columns are group, learning rate, weight decay, number of tensors, number of parameters,
    and the first and last parameter name, which groups of LayerDecayConstructor have.
    """
    rows = [("group", "lr", "weight decay", "tensors", "parameters", "names")]
    for i, group in enumerate(optimizer.param_groups):
        names = group.get("param_names", [])
        rows.append(
            (
                group.get("name", str(i)),
                f"{group['lr']:.4g}",
                f"{group['weight_decay']:.4g}",
                str(len(group["params"])),
                f"{sum(param.numel() for param in group['params']):,}",
                " ... ".join(dict.fromkeys([*names[:1], *names[-1:]])),
            )
        )
    return format_table(rows, markdown=False, left=(0, 5))


def build_optimizer(cfg: Config) -> Optimizer:
    """Return the optimizer of a config, built for its model without pretrained weights.

    Raises:
        InputError: If the model or the optimizer cannot be built from the config.
    """
    with building("the config"), safe_loading(), default_scope(cfg.default_scope):
        return build_optim_wrapper(MODELS.build(cfg.model), cfg.optim_wrapper).optimizer
