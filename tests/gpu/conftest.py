import pytest
import torch


def pytest_collection_modifyitems(items):
    """Mark the tests of this folder, and skip them without a GPU."""
    for item in items:
        if "tests/gpu/" in item.path.as_posix():
            item.add_marker(pytest.mark.gpu)
            if not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU, see make gpu"))
