"""Loading tensors into a module, with an account of those loaded, resized, new and not used."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from gfnet_dense.models.utils.stem import STEMS, describe_expansion
from gfnet_dense.utils.errors import InputError

from .contents import Weights

LISTED = 6  # names listed in a report, of each kind
# A line of the error of torch's load_state_dict, as seen in PyTorch 2.13
MISFIT = re.compile(
    r"size mismatch for (\S+): copying a param with shape torch\.Size\(\[(.*?)\]\) from checkpoint"
    r", the shape in current model is torch\.Size\(\[(.*?)\]\)"
)


@dataclass(frozen=True)
class Fit:
    """What became of the tensors of a file and of a module.

    Attributes:
        names: All names of the module.
        given: All names of the file.
        new: Names of the module that the file lacks.
        unused: Names of the file that the module lacks.
        misfits: Shapes in the file and in the module, as text, by the name in the module.
        resized: Names of filters and position embeddings loaded in another size than stored.
        grid: Grid to which they were resized, that of the first stage with filters.
        stem: How the stem was adapted to another number of channels, '' if it was not.
    """

    names: Sequence[str]
    given: Sequence[str]
    new: Sequence[str]
    unused: Sequence[str]
    misfits: dict[str, tuple[str, str]]
    resized: Sequence[str]
    grid: str
    stem: str

    @property
    def loaded(self) -> list[str]:
        """Names of the module whose tensors were loaded."""
        others = {*self.new, *self.misfits}
        return [name for name in self.names if name not in others]

    def report(self, name: str, weights: Weights) -> str:
        """Return the report of a load as one line.

        Args:
            name: Name of the file.
            weights: The weights that were loaded.
        """
        report = f"{name}: loaded {len(self.loaded)} of {len(self.names)} tensors"
        report += f"; resized {len(self.resized)}"
        if self.resized:
            has_position = any(name.endswith("pos_embed") for name in self.resized)
            kinds = "filters and position embedding" if has_position else "filters"
            report += f" ({kinds}, to the grid {self.grid})"
        if self.stem:
            report += f"; stem: {self.stem}"
        report += f"; new: {_some(collapse(self.new, self.names)) or 'nothing'}"
        unused = [*self.unused, *weights.left_out]
        report += f"; not used: {_some(collapse(unused, [*self.given, *unused])) or 'nothing'}"
        if self.misfits:
            report += f"; of another shape: {self.shapes()}"
        return "; ".join([report, *weights.notes])

    def shapes(self) -> str:
        """Return the tensors of another shape, with both shapes."""
        return _some(
            [f"{n} (file ({a}), model ({b}))" for n, (a, b) in sorted(self.misfits.items())]
        )

    def problems(self) -> str:
        """Return how many tensors are missing, too many or of another shape, and the first."""
        found = []
        if self.new:
            names = _some(collapse(self.new, self.names))
            found.append(f"{len(self.new)} of {len(self.names)} tensors missing ({names})")
        if self.unused:
            names = _some(collapse(self.unused, self.given))
            found.append(f"{len(self.unused)} not in the model ({names})")
        if self.misfits:
            found.append(f"{len(self.misfits)} of another shape ({self.shapes()})")
        return ", ".join(found)


def load_tensors(module: nn.Module, state_dict: dict[str, Tensor], path: str | Path) -> Fit:
    """Load into a module whatever fits.

    Args:
        module: Any module; the load hooks of our backbones resize filters and position embeddings.
        state_dict: Tensors by name.
        path: The file, for messages.

    Raises:
        InputError: If a tensor fails :func:`check_dtypes`, or cannot be copied.
    """
    check_dtypes(module, state_dict, path)
    incompatible: Any = None

    def note(_: nn.Module, keys: Any) -> None:  # is called before the error of other shapes
        nonlocal incompatible
        incompatible = keys

    handle = module.register_load_state_dict_post_hook(note)
    misfits = {}
    try:
        module.load_state_dict(state_dict, strict=False)
    except InputError as e:  # of the hook of our backbones
        raise InputError(f"{path} does not fit: {e}") from None
    except RuntimeError as e:
        misfits = {name: (given, own) for name, given, own in MISFIT.findall(str(e))}
        if len(misfits) < len(str(e).splitlines()) - 1 or not misfits:
            raise InputError(f"{path} does not fit: {str(e).splitlines()[-1].strip()}") from None
    finally:
        handle.remove()
    own = module.state_dict()
    resized = [
        name for name, tensor in state_dict.items()
        if name in own and name not in misfits and own[name].shape != tensor.shape
    ]  # fmt: skip
    stems = [name for name in resized if name.endswith(STEMS)]
    grid = getattr(getattr(module, "backbone", module), "filter_grid", ())
    # Old files lack the numbers of batches that batch norms have seen: they matter only without a
    # momentum, and PyTorch fills them in.
    ignored = {n for n in own if n.endswith("num_batches_tracked") and n not in state_dict}
    missing = set(incompatible.missing_keys) - ignored
    return Fit(
        [name for name in own if name not in ignored],
        list(state_dict),
        [name for name in own if name in missing],
        list(incompatible.unexpected_keys),
        misfits,
        [name for name in resized if name not in stems],
        "x".join(map(str, grid)),
        _describe_stem(module, stems[0]) if stems else "",
    )


def _describe_stem(module: nn.Module, name: str) -> str:
    """Say how the stem of this name, a convolution in a backbone of ours, was adapted."""
    end = next(end for end in STEMS if name.endswith(end))
    backbone: Any = module.get_submodule(name.removesuffix(end).rstrip("."))
    return describe_expansion(backbone.in_channels, backbone.rgb_channels)


def check_dtypes(module: nn.Module, state_dict: dict[str, Tensor], path: str | Path) -> None:
    """Check that tensors are floating-point numbers exactly where the module's are.

    ``load_state_dict`` would silently convert others, such as the integers of a quantized model.

    Args:
        module: Module that the weights are meant for.
        state_dict: Weights; missing ones are not checked.
        path: Name of the weights in the message.

    Raises:
        InputError: For the first weight that fails the check.
    """
    for name, expected in module.state_dict().items():
        found = state_dict.get(name, expected)
        if found.dtype.is_floating_point != expected.dtype.is_floating_point:
            raise InputError(
                f"{path} holds {name} as {found.dtype}, the model has {expected.dtype}: weights "
                "are floating-point numbers of any precision"
            )


def collapse(names: Collection[str], whole: Collection[str]) -> list[str]:
    """Return names, shortened to the name of a module where all tensors of the module are listed.

    Args:
        names: Names of tensors, such as ``head.weight`` and ``head.bias``.
        whole: All names, of which ``names`` are some.

    Returns:
        Sorted names of tensors and modules, such as ``head``.
    """
    listed = set(names)
    partial = {""}  # modules that have tensors which are not listed
    for name in whole:
        if name not in listed:
            parts = name.split(".")
            partial |= {".".join(parts[:i]) for i in range(1, len(parts) + 1)}
    short = set()
    for name in listed:
        parts = name.split(".")
        prefixes = (".".join(parts[:i]) for i in range(1, len(parts) + 1))
        short.add(next((prefix for prefix in prefixes if prefix not in partial), name))
    return sorted(short)


def _some(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {more} more" if more > 0 else "")
