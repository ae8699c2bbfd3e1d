import sys

import pytest

from . import PATHS

sys.exit(pytest.main(["--torture", *map(str, PATHS)]))
