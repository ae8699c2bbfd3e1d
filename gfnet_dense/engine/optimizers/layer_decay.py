"""Learning rates that decay from the heads to the stem, for fine-tuning a pretrained backbone."""

from math import inf
from numbers import Real

from mmengine.optim import DefaultOptimWrapperConstructor
from torch import Tensor, nn

from gfnet_dense.registry import OPTIM_WRAPPER_CONSTRUCTORS
from gfnet_dense.utils.errors import InputError

DEFAULTS = dict(decay_rate=1.0, decay_type="layer_wise", decay_filters=True, custom_keys={})
# decay_type: the method by which a backbone tells (layer of a parameter, number of layers).
DEPTH_METHODS = {"layer_wise": "get_layer_depth", "stage_wise": "get_stage_depth"}
MULTIPLIERS = {"lr_mult", "decay_mult"}


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayConstructor(DefaultOptimWrapperConstructor):
    """Builds an optimizer whose learning rate shrinks from the heads to the stem.

    A parameter has the rate ``lr * decay_rate ** (num_layers - layer - 1)``, one outside of the
    backbone ``lr`` (as in BEiT, https://arxiv.org/abs/2106.08254). Norms, biases, layer scales and
    the position embedding have no weight decay. Parameters of the same learning rate and weight
    decay share a group: the fewer groups, the faster a step.

    Backbones are found by their method ``get_layer_depth``, which those of mmpretrain have as well.

    Args:
        optim_wrapper_cfg: mmengine's; the optimizer has ``lr`` and ``weight_decay``.
        paramwise_cfg: A dict with any of

            - ``decay_rate``: above 0, at most 1. The default 1 is one rate for all layers.
            - ``decay_type``: ``layer_wise`` (default) or ``stage_wise``, all blocks of a stage
              being one layer.
            - ``decay_filters``: Whether global filters have weight decay, as they had in the
              ImageNet training (default: True).
            - ``custom_keys``: ``{part of a name: dict(lr_mult=..., decay_mult=...)}``; of the
              parts that a name has the longest counts. A ``decay_mult`` overrides the rules above.

    Raises:
        InputError: For other keys and values.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None):
        optimizer = optim_wrapper_cfg.get("optimizer", {})
        if not (_is_factor(optimizer.get("lr")) and _is_factor(optimizer.get("weight_decay"))):
            raise InputError(
                "LayerDecayConstructor needs lr and weight_decay of the optimizer, numbers that "
                f"are not negative, got {dict(optimizer)}"
            )
        # All options, since mmengine asks for no groups where there are none.
        super().__init__(optim_wrapper_cfg, _complete(paramwise_cfg))

    def add_params(self, params: list[dict], module: nn.Module) -> None:
        """Append the parameter groups of ``module``, a model, to ``params``, the stem first.

        Each has, besides what the optimizer needs, ``name`` (its layers) and ``param_names``.

        Raises:
            InputError: If the rate is to decay and no backbone tells its layers.
        """
        options = self.paramwise_cfg
        rate, method = options["decay_rate"], DEPTH_METHODS[options["decay_type"]]
        behind = _layers_behind(module, method)
        num_behind_stem = max(behind.values(), default=0)
        if rate != 1 and num_behind_stem == 0:
            raise InputError(
                f"decay_rate={rate} needs a backbone with {method}(), such as GFNet, and "
                f"{type(module).__name__} has none: leave decay_rate out for one learning rate"
            )
        groups = {}
        for name, param in sorted(module.named_parameters(), key=lambda item: -behind[item[0]]):
            if not param.requires_grad:
                continue
            custom = _find_custom(name, options["custom_keys"])
            lr = self.base_lr * rate ** behind[name] * custom.get("lr_mult", 1)
            decays = _decays(name, param, behind[name] > 0, options["decay_filters"])
            weight_decay = self.base_wd * custom.get("decay_mult", decays)
            group = groups.setdefault(
                (lr, weight_decay),
                dict(lr=lr, weight_decay=weight_decay, params=[], param_names=[]),
            )
            group["params"].append(param)
            group["param_names"].append(name)
        for group in groups.values():
            first, last = (num_behind_stem - behind[group["param_names"][i]] for i in (0, -1))
            group["name"] = f"layer_{first}" if first == last else f"layer_{first}-{last}"
            if group["weight_decay"] == 0:
                group["name"] += "_no_decay"
        params.extend(groups.values())


def _layers_behind(model: nn.Module, method: str) -> dict[str, int]:
    """Return for each parameter how many layers of its backbone follow, 0 outside of backbones."""
    behind = {name: 0 for name, _ in model.named_parameters()}
    for path, module in model.named_modules():  # inner ones last: they know best
        if hasattr(module, method):
            for name, _ in module.named_parameters():
                layer, num_layers = getattr(module, method)(name)
                behind[f"{path}.{name}".lstrip(".")] = num_layers - layer - 1
    return behind


def _decays(name: str, param: Tensor, in_backbone: bool, decay_filters: bool) -> bool:
    """Return whether a parameter has weight decay."""
    last = name.rpartition(".")[2]
    if last == "complex_weight":
        return decay_filters
    return param.ndim > 1 and not (in_backbone and last == "pos_embed")


def _find_custom(name: str, custom_keys: dict[str, dict]) -> dict:
    """Return the multipliers of a parameter; of keys as long as each other mmengine's first."""
    keys = [key for key in custom_keys if key in name]
    return custom_keys[min(keys, key=lambda key: (-len(key), key))] if keys else {}


def _complete(paramwise_cfg: dict | None) -> dict:
    """Return all options of :class:`LayerDecayConstructor`, checked."""
    given = {} if paramwise_cfg is None else paramwise_cfg
    if not isinstance(given, dict) or not set(given) <= set(DEFAULTS):
        raise InputError(
            f"paramwise_cfg of LayerDecayConstructor is a dict with any of {', '.join(DEFAULTS)}, "
            f"got {given}"
        )
    options = {**DEFAULTS, **given}
    rate, decay_type = options["decay_rate"], options["decay_type"]
    if not _is_factor(rate) or not 0 < rate <= 1:
        raise InputError(f"decay_rate is a number above 0 and at most 1, got {rate!r}")
    if decay_type not in list(DEPTH_METHODS):
        raise InputError(f"decay_type is one of {', '.join(DEPTH_METHODS)}, got {decay_type!r}")
    if not isinstance(options["decay_filters"], bool):
        raise InputError(f"decay_filters is True or False, got {options['decay_filters']!r}")
    custom_keys = options["custom_keys"]
    if not isinstance(custom_keys, dict) or not all(map(_is_custom, custom_keys.items())):
        raise InputError(
            "custom_keys is {part of a name: dict(lr_mult=..., decay_mult=...)} with numbers that "
            f"are not negative, got {custom_keys}"
        )
    return options


def _is_custom(item: tuple) -> bool:
    key, multipliers = item
    return (
        isinstance(key, str)
        and isinstance(multipliers, dict)
        and set(multipliers) <= MULTIPLIERS
        and all(map(_is_factor, multipliers.values()))
    )


def _is_factor(value) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and 0 <= value < inf
