"""Warnings of other libraries."""

import warnings


def quiet_third_party() -> None:
    """Keep warnings away that a user of this project can do nothing about."""
    warnings.filterwarnings("ignore", category=UserWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", module="PIL", category=RuntimeWarning)  # of large images

    from mmengine.logging import MMLogger

    # mmdet's, at import, of a model for road lanes
    MMLogger.get_current_instance().addFilter(lambda record: "Line NMS" not in record.getMessage())
