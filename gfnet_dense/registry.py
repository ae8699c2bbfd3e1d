"""Children of mmengine's registries, in the scope ``gfnet_dense``.

mmengine imports ``<scope>.registry`` when it meets ``type='<scope>.Name'``, and the registry found
there imports its ``locations``. So ``type='gfnet_dense.GFNet'`` builds under the stock tools of
mmsegmentation and mmdetection, without ``custom_imports``.
"""

from importlib import import_module

from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import WEIGHT_INITIALIZERS as MMENGINE_WEIGHT_INITIALIZERS
from mmengine.registry import Registry

SCOPE = "gfnet_dense"

# Their module imports mmsegmentation, which users of other models may not have.
HEADS = ("FCNHead", "FPN", "FPNHead", "PSPHead", "SegformerHead", "UPerHead")


class ModelRegistry(Registry):
    """Registry of models that imports the heads when one of them is asked for."""

    def get(self, key: str) -> type | None:
        """Return the class of a name, see mmengine's class."""
        if key.rpartition(".")[2] in HEADS and self.scope == SCOPE:
            import_module("gfnet_dense.heads")
        return super().get(key)


MODELS = ModelRegistry(
    "model", parent=MMENGINE_MODELS, scope=SCOPE, locations=["gfnet_dense.models"]
)
HOOKS = Registry(
    "hook",
    parent=MMENGINE_HOOKS,
    scope=SCOPE,
    locations=["gfnet_dense.engine.hooks"],
)
DATASETS = Registry(
    "dataset", parent=MMENGINE_DATASETS, scope=SCOPE, locations=["gfnet_dense.datasets"]
)
DATA_SAMPLERS = Registry(
    "data sampler",
    parent=MMENGINE_DATA_SAMPLERS,
    scope=SCOPE,
    locations=["gfnet_dense.datasets", "gfnet_dense.datasets.rare_classes"],
)
TRANSFORMS = Registry(
    "transform",
    parent=MMENGINE_TRANSFORMS,
    scope=SCOPE,
    locations=["gfnet_dense.datasets.bands", "gfnet_dense.datasets.shrink_to_fit"],
)
WEIGHT_INITIALIZERS = Registry(
    "weight initializer",
    parent=MMENGINE_WEIGHT_INITIALIZERS,
    scope=SCOPE,
    locations=["gfnet_dense.checkpoint"],
)
OPTIM_WRAPPERS = Registry(
    "optimizer wrapper",
    parent=MMENGINE_OPTIM_WRAPPERS,
    scope=SCOPE,
    locations=["gfnet_dense.engine.optimizers"],
)
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    "optimizer wrapper constructor",
    parent=MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
    scope=SCOPE,
    locations=["gfnet_dense.engine.optimizers"],
)
