"""Functions shared by the commands in ``tools/`` and ``.dev/``; the library imports none."""

from gfnet_dense.utils.allocator import keep_freed_memory
from gfnet_dense.utils.program import PROGRAM
from gfnet_dense.utils.third_party import quiet_third_party

from .checkpoints import checkpoint_of, split_inputs
from .configs import adapt_config, load_config, read_config, set_launcher, set_outputs
from .console import plain_errors
from .environment import limit_onednn_cache, limit_opencv_pixels
from .models import read_model, read_shared_config
from .parser import (
    ArgumentParser,
    add_amp_argument,
    add_checkpoint_argument,
    add_config_arguments,
    add_optional_checkpoint_argument,
    add_run_arguments,
    add_trust_argument,
    command_line,
    parse_size,
)
from .run import test, train

__all__ = [
    "PROGRAM",
    "ArgumentParser",
    "adapt_config",
    "add_amp_argument",
    "add_checkpoint_argument",
    "add_config_arguments",
    "add_optional_checkpoint_argument",
    "add_run_arguments",
    "add_trust_argument",
    "checkpoint_of",
    "command_line",
    "limit_onednn_cache",
    "load_config",
    "parse_size",
    "plain_errors",
    "quiet_third_party",
    "read_config",
    "read_model",
    "read_shared_config",
    "set_launcher",
    "set_outputs",
    "split_inputs",
    "test",
    "train",
]

limit_opencv_pixels()  # OpenCV reads the limit when it is imported
keep_freed_memory()
