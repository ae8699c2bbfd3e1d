"""Hooks of the runner, one file each."""

from .autocast_hook import AutocastHook
from .average_statistics_hook import AverageStatisticsHook
from .check_data_hook import CheckDataHook
from .checkpoint_hook import CheckpointHook
from .contact_sheet_hook import ContactSheetHook
from .cufft_plan_cache_hook import CufftPlanCacheHook
from .curves_hook import CurvesHook
from .finite_loss_hook import FiniteLossHook
from .results_hook import ResultsHook
from .resume_hook import ResumeHook
from .save_request_hook import SaveRequestHook
from .seed_hook import SeedHook

__all__ = [
    "AutocastHook",
    "AverageStatisticsHook",
    "CheckDataHook",
    "CheckpointHook",
    "ContactSheetHook",
    "CufftPlanCacheHook",
    "CurvesHook",
    "FiniteLossHook",
    "ResultsHook",
    "ResumeHook",
    "SaveRequestHook",
    "SeedHook",
]
