"""Filters for the warnings of other libraries."""

import warnings


def quiet_third_party() -> None:
    """Hide the warnings of other libraries that users of this project cannot act on."""
    warnings.filterwarnings("ignore", category=UserWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    # Pillow warns of large images.
    warnings.filterwarnings("ignore", module="PIL", category=RuntimeWarning)

    from mmengine.logging import MMLogger

    # When mmdet is imported, its model for lane detection logs that an operator is missing.
    MMLogger.get_current_instance().addFilter(lambda record: "Line NMS" not in record.getMessage())
