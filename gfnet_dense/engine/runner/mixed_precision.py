"""Mixed precision of a training and of a test, set in a config."""

import sys

from mmengine.config import Config, ConfigDict
from mmengine.device import get_device

from gfnet_dense.utils.amp import amp_dtype, is_slow_in_bfloat16
from gfnet_dense.utils.config import type_name
from gfnet_dense.utils.errors import InputError

AMP_TYPE, BFLOAT16_TYPE = "AmpOptimWrapper", "gfnet_dense.Bfloat16OptimWrapper"
# Arguments of AmpOptimWrapper that float32's range of exponents makes needless
OF_SCALER = ("loss_scale", "dtype", "use_fsdp")


def set_training_precision(cfg: Config, amp: str | None) -> None:
    """Set the optimizer wrapper of a config to one of mixed precision, in place.

    A wrapper for mixed precision that the config has stays, with all of its settings; only on a
    CPU, where mmengine's AmpOptimWrapper cannot be, another one of the same dtype replaces it.

    Args:
        cfg: A whole config.
        amp: See :func:`gfnet_dense.utils.amp.amp_dtype`; None for the precision of the config.

    Raises:
        InputError: If the device has no such dtype, if the config sets another one, or if its
            wrapper is of a type that cannot be exchanged.
    """
    wrapper, device_type = cfg.get("optim_wrapper"), get_device().partition(":")[0]
    if not isinstance(wrapper, ConfigDict):
        return
    name = type_name(wrapper) or "OptimWrapper"
    is_amp = name == AMP_TYPE
    if amp is None and not (is_amp and device_type == "cpu"):
        return
    if name not in ("OptimWrapper", AMP_TYPE, "Bfloat16OptimWrapper") or "optimizer" not in wrapper:
        raise InputError(
            f"--amp exchanges an OptimWrapper with one optimizer, the config has {name} with "
            f"{', '.join(map(str, wrapper))}: leave out --amp, and set the precision in the config"
        )
    own = _own_dtype(wrapper, name)
    if amp is None and own is None:
        print(f"there is no GPU: {AMP_TYPE} of the config trains in bfloat16", file=sys.stderr)
    if own and amp not in (None, "auto", own):
        raise InputError(
            f"--amp {amp} contradicts the config, whose optim_wrapper is for {own}: leave out "
            f"{amp}, or set optim_wrapper.dtype"
        )
    dtype = str(amp_dtype(own or amp or "auto", device_type)).removeprefix("torch.")
    if is_amp and device_type != "cpu":
        wrapper.dtype = dtype
    elif dtype == "float16":
        wrapper.update(type=AMP_TYPE, dtype=dtype, loss_scale="dynamic")
    else:
        for key in OF_SCALER:
            wrapper.pop(key, None)
        wrapper.type = BFLOAT16_TYPE
    _warn_if_slow(device_type)


def set_test_precision(cfg: Config, amp: str | None) -> None:
    """Add a hook to a config, in place, that tests the model in mixed precision.

    Args:
        cfg: A whole config.
        amp: See :func:`gfnet_dense.utils.amp.amp_dtype`; None for float32.

    Raises:
        InputError: If the device has no such dtype.
    """
    if amp is None:
        return
    device_type = get_device().partition(":")[0]
    amp_dtype(amp, device_type)
    hook = dict(type="gfnet_dense.AutocastHook", amp=amp)
    cfg.custom_hooks = [*(cfg.get("custom_hooks") or []), hook]
    _warn_if_slow(device_type)


def _own_dtype(wrapper: ConfigDict, name: str) -> str | None:
    """Return the name of the dtype that a wrapper of a config has, None if it sets none."""
    if name == "Bfloat16OptimWrapper":
        return "bfloat16"
    dtype = wrapper.get("dtype") if name == AMP_TYPE else None
    return None if dtype is None else str(dtype).removeprefix("torch.")


def _warn_if_slow(device_type: str) -> None:
    if device_type == "cpu" and is_slow_in_bfloat16():
        print("this CPU has no bfloat16: mixed precision is slower than float32", file=sys.stderr)
