"""Import the modules that most commands need, for :mod:`tests.commands`."""

from contextlib import suppress

import matplotlib.figure  # noqa: F401
import mmseg.datasets  # noqa: F401
import mmseg.models  # noqa: F401
import torch._dynamo  # noqa: F401  (optimizers import it)

import gfnet_dense.apis.loading
import gfnet_dense.apis.predict_files
import gfnet_dense.engine.runner  # noqa: F401

with suppress(ImportError):  # without mmcv's compiled operators
    import mmdet.datasets  # noqa: F401
    import mmdet.models  # noqa: F401
