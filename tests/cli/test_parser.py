"""Values of --cfg-options."""

import pytest

from gfnet_dense.cli.parser import ArgumentParser, add_config_arguments


@pytest.mark.parametrize(
    "text, value",
    [
        ("/data/my photos (1)/a", "/data/my photos (1)/a"),
        ("[traffic light,car]", ["traffic light", "car"]),
        ("['traffic light', \"car\"]", ["traffic light", "car"]),
        ("traffic light, car", ["traffic light", "car"]),
        ("[a  b , (1, 2.5) ]", ["a  b", (1, 2.5)]),
        ("[(1, 2), [c d, None], true]", [(1, 2), ["c d", None], True]),
        (" 3 ", 3),
        ("(0, 4095)", (0, 4095)),
        ("''", ""),
        ("", ""),
        ("'a b'", "a b"),
    ],
)
def test_spaces_inside_of_names_are_kept(text, value):
    parser = ArgumentParser()
    add_config_arguments(parser)
    options = parser.parse_args(["c.py", "--cfg-options", f"key={text}"]).cfg_options
    assert options == {"key": value}
