"""Filters for the warnings and logs of other libraries."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# Modules whose warnings users of this project cannot act on. A warning counts as one of the module
# whose line it names, which for some is the caller's.
LIBRARIES = (
    r"(mmcv|mmdet|mmengine|mmseg|torch|torchvision|numpy|PIL|cv2|matplotlib|pycocotools|onnx\w*"
    r"|copyreg|importlib)(\.|$)"
)


def quiet_third_party() -> None:
    """Hide the warnings of the libraries; those of the user's code and of this project stay.

    It changes filters of the whole process, so that commands call it and the library does not.
    """
    for category in (UserWarning, FutureWarning, DeprecationWarning):
        warnings.filterwarnings("ignore", category=category, module=LIBRARIES)
    # Pillow warns of large images.
    warnings.filterwarnings("ignore", category=RuntimeWarning, module="PIL")

    from mmengine.logging import MMLogger

    # When mmdet is imported, its model for lane detection logs that an operator is missing.
    MMLogger.get_current_instance().addFilter(lambda record: "Line NMS" not in record.getMessage())


@contextmanager
def errors_alone(logger: logging.Logger) -> Iterator[None]:
    """Let a logger pass errors alone in the ``with`` block."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
