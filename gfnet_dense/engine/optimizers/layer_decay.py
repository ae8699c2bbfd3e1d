"""Learning rates that decay from the heads to the stem, for fine-tuning a pretrained backbone."""

from math import inf
from numbers import Real
from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from torch import Tensor, nn

from gfnet_dense.registry import OPTIM_WRAPPER_CONSTRUCTORS
from gfnet_dense.utils.errors import InputError

DEFAULTS = dict(decay_rate=1.0, decay_type="layer_wise", decay_filters=True, custom_keys={})
# decay_type: method of the backbone that returns (layer of a parameter, number of layers).
DEPTH_METHODS = {"layer_wise": "get_layer_depth", "stage_wise": "get_stage_depth"}
MULTIPLIERS = {"lr_mult", "decay_mult"}


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayConstructor(DefaultOptimWrapperConstructor):
    """Constructor of an optimizer whose learning rate decays from the heads to the stem.

    A parameter of a backbone has the learning rate ``lr * decay_rate ** (num_layers - layer - 1)``
    (as in BEiT, https://arxiv.org/abs/2106.08254), all others have ``lr``. Norms, biases, layer
    scales and the position embedding have no weight decay. Parameters of the same learning rate
    and weight decay share a group, because a step is faster with fewer groups.

    A backbone is a module with the method ``get_layer_depth``, as in mmpretrain; for ``stage_wise``
    it is ``get_stage_depth``.

    Args:
        optim_wrapper_cfg: Config of mmengine's OptimWrapper; its optimizer has ``lr`` and
            ``weight_decay``.
        paramwise_cfg: A dict with any of

            - ``decay_rate``: above 0, at most 1. The default 1 is one rate for all layers.
            - ``decay_type``: ``layer_wise`` (default) or ``stage_wise``, where all blocks of a
              stage are one layer.
            - ``decay_filters``: Whether global filters have weight decay, as they had in the
              ImageNet training (default: True).
            - ``custom_keys``: ``{part of a name: dict(lr_mult=..., decay_mult=...)}``; the longest
              key that a parameter's name contains applies. A ``decay_mult`` overrides the rules
              above.

    Raises:
        InputError: If a key or a value is not one of these.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        optimizer = optim_wrapper_cfg.get("optimizer", {})
        if not (_is_factor(optimizer.get("lr")) and _is_factor(optimizer.get("weight_decay"))):
            raise InputError(
                "LayerDecayConstructor needs lr and weight_decay of the optimizer, numbers that "
                f"are not negative, got {dict(optimizer)}"
            )
        # Never empty: mmengine calls add_params only if paramwise_cfg has options.
        super().__init__(optim_wrapper_cfg, _complete(paramwise_cfg))

    def add_params(self, params: list[dict], module: nn.Module) -> None:
        """Append the parameter groups of a model to ``params``, from the stem to the heads.

        A group has ``params``, ``lr`` and ``weight_decay``, and for people ``name`` (its layers)
        and ``param_names``.

        Raises:
            InputError: If ``decay_rate`` is not 1 and the model has no backbone with layer depths.
        """
        options = self.paramwise_cfg
        rate, method = options["decay_rate"], DEPTH_METHODS[options["decay_type"]]
        num_after = _count_layers_after(module, method)
        num_after_stem = max(num_after.values(), default=0)
        if rate != 1 and num_after_stem == 0:
            raise InputError(
                f"decay_rate={rate} needs a backbone with {method}(), such as GFNet or HorNet, and "
                f"{type(module).__name__} has none: leave decay_rate out for one learning rate"
            )
        groups: dict[tuple[float, float], dict[str, Any]] = {}
        for name, param in sorted(module.named_parameters(), key=lambda item: -num_after[item[0]]):
            if not param.requires_grad:
                continue
            custom = _find_custom(name, options["custom_keys"])
            lr = self.base_lr * rate ** num_after[name] * custom.get("lr_mult", 1)
            decays = _decays(name, param, num_after[name] > 0, options["decay_filters"])
            weight_decay = self.base_wd * custom.get("decay_mult", decays)
            group = groups.setdefault(
                (lr, weight_decay),
                dict(lr=lr, weight_decay=weight_decay, params=[], param_names=[]),
            )
            group["params"].append(param)
            group["param_names"].append(name)
        for group in groups.values():
            first, last = (num_after_stem - num_after[group["param_names"][i]] for i in (0, -1))
            group["name"] = f"layer_{first}" if first == last else f"layer_{first}-{last}"
            if group["weight_decay"] == 0:
                group["name"] += "_no_decay"
        params.extend(groups.values())


def _count_layers_after(model: nn.Module, method: str) -> dict[str, int]:
    """Return by parameter name the number of backbone layers after it; 0 outside of backbones."""
    num_after = {name: 0 for name, _ in model.named_parameters()}
    # Modules come before their submodules: of nested backbones the innermost one decides.
    for path, module in model.named_modules():
        if hasattr(module, method):
            for name, _ in module.named_parameters():
                layer, num_layers = getattr(module, method)(name)
                num_after[f"{path}.{name}".lstrip(".")] = num_layers - layer - 1
    return num_after


def _decays(name: str, param: Tensor, in_backbone: bool, decay_filters: bool) -> bool:
    """Return whether a parameter has weight decay."""
    last = name.rpartition(".")[2]
    if last == "complex_weight":
        return decay_filters
    return param.ndim > 1 and not (in_backbone and last == "pos_embed")


def _find_custom(name: str, custom_keys: dict[str, dict]) -> dict:
    """Return the multipliers of a parameter, of the longest key that is a part of its name.

    If several keys have that length, the alphabetically first one applies, as in mmengine.
    """
    keys = [key for key in custom_keys if key in name]
    return custom_keys[min(keys, key=lambda key: (-len(key), key))] if keys else {}


def _complete(paramwise_cfg: dict | None) -> dict:
    """Return checked options of :class:`LayerDecayConstructor`, with its defaults.

    Raises:
        InputError: If a key or a value is wrong.
    """
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


def _is_factor(value: object) -> bool:
    """Return whether a value is a number that is finite and not negative."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    return not value < 0 and value < inf
