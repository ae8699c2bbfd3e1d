"""Classes of a checkpoint against those of the data."""

import re

import pytest

from gfnet_dense.checkpoint.classes import check_classes
from gfnet_dense.utils.errors import InputError
from tests.checkpoint.weights import Messages

ORDER = "trained for the classes disc, blob, in this order, and the data of the config have blob"

# Classes of the file, classes of the data, and the message; None if nothing is said.
CASES = {
    "the same": (["disc", "blob"], ("disc", "blob"), None),
    "another order": (["disc", "blob"], ("blob", "disc"), ORDER),
    "another order, of three": (list("abc"), list("acb"), "class 1 is 'b' there and 'c' here"),
    "another name": (["a", "blob"], ("a", "drop"), "1 classes of other names.*'blob' and.*'drop"),
    "another spelling": (["Disc", "blob"], ("disc", "blob"), "'Disc' and, in the config, 'disc'"),
    "one name twice": (["a", "a", "b"], ("a", "b", "b"), "'a' and, in the config, 'b'"),
    "fewer in the data": (list("abc"), list("ab"), "3 classes, the data of the config have 2$"),
    "more in the data": (list("ab"), list("xab"), "2 classes, .* have 3; .* 'a' and, .*, 'x'"),
    "none in the file": (None, list("ab"), None),
    "none in the data": (list("ab"), None, None),
    "no list in the file": (3, list("ab"), None),
    "numbers as names": ([1, 2], ["1", "2"], None),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_another_order_is_refused_and_other_names_are_warned_of(case):
    trained, own, message = CASES[case]
    meta = {"dataset_meta": {"classes": trained}} if trained is not None else {}
    if "order" in case:
        with pytest.raises(InputError, match=message) as error:
            check_classes(meta, own, "iter_4.pth")
        assert "iter_4.pth" in str(error.value)
        return
    with Messages() as messages:
        check_classes(meta, own, "iter_4.pth")
    assert len(messages) == (message is not None)
    if message is not None:
        assert re.search(message, messages[0]), messages[0]
