"""The tests of docs/reliability.md, in full by
``python -m tests.torture [arguments of pytest]``."""

from tests.conftest import ROOT

# Beside this folder, files of tests that are of one size; what they are about
FILES = {
    "tests/test_resume.py": "checkpoints and resuming",
    "tests/test_seeding.py": "random numbers",
    "tests/test_safe_loading.py": "checkpoints made by hand to do harm",
    "tests/test_checkpoints.py": "checkpoints that are broken, or would run code",
    "tests/tools/test_hostile.py": "a planted pickle in every command",
    "tests/test_masks.py": "masks of COCO",
    "tests/test_finite.py": "numbers that are not finite",
    "tests/test_no_labels.py": "batches without labels",
}
PATHS = [ROOT / "tests" / "torture", *(ROOT / name for name in FILES)]
