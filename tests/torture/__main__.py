import sys

import pytest

from . import PATHS

sys.exit(pytest.main(["--torture", *sys.argv[1:], *map(str, PATHS)]))
