"""Tests of docs/reliability.md. ``python -m tests.torture [pytest arguments]`` runs all in full."""

from tests.conftest import ROOT

# Test files outside this folder, which have one scale only, and their topics
FILES = {
    "tests/engine/runner/test_resuming.py": "checkpoints and resuming",
    "tests/datasets/test_seeded.py": "random numbers",
    "tests/checkpoint/test_safe_reader.py": "checkpoints made by hand to do harm",
    "tests/checkpoint/test_loading.py": "checkpoints that are broken, or would run code",
    "tests/tools/test_hostile.py": "a planted pickle in every command",
    "tests/datasets/test_coco_masks.py": "masks of COCO",
    "tests/engine/hooks/test_finite_loss_hook.py": "numbers that are not finite",
    "tests/test_no_labels.py": "batches without labels",
}
PATHS = [ROOT / "tests" / "torture", *(ROOT / name for name in FILES)]
