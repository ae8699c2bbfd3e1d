"""Whose warnings the commands hide."""

import logging
import sys
import warnings

import pytest

from gfnet_dense.utils.third_party import errors_alone, quiet_third_party

CATEGORIES = (UserWarning, FutureWarning, DeprecationWarning)


def shows(category, module):
    with warnings.catch_warnings(record=True) as shown:
        warnings.resetwarnings()
        quiet_third_party()
        warnings.warn_explicit("text", category, "file.py", 1, module=module)
    return len(shown) == 1


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize(
    "module", ["mmengine.runner", "mmseg", "mmdet.models", "torch", "torch.nn.modules", "PIL.Image"]
)
def test_warnings_of_libraries_are_hidden(category, module):
    assert not shows(category, module)


@pytest.mark.parametrize("category", [*CATEGORIES, RuntimeWarning])
@pytest.mark.parametrize(
    "module",
    ["__main__", "my_hooks", "gfnet_dense.datasets.survey", "torchmetrics", "mmsegment"],
)
def test_warnings_of_the_user_and_of_this_project_are_shown(category, module):
    assert shows(category, module)


def test_runtime_warnings_of_libraries_are_shown_but_for_pillow():
    assert shows(RuntimeWarning, "numpy") and not shows(RuntimeWarning, "PIL.Image")


def test_library_leaves_the_filters_alone():
    before = list(warnings.filters)
    for name in ("gfnet_dense.api", "gfnet_dense.engine.runner", "gfnet_dense.utils.third_party"):
        sys.modules.pop(name, None)
        __import__(name)
    assert warnings.filters == before


def test_a_logger_passes_errors_alone_for_a_while(caplog):
    logger = logging.getLogger("test of errors_alone")
    logger.setLevel(logging.INFO)
    with pytest.raises(KeyError), errors_alone(logger):
        logger.warning("hidden")
        logger.error("shown")
        raise KeyError
    logger.info("shown again")
    assert caplog.messages == ["shown", "shown again"]
