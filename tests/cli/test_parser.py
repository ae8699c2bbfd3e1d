"""Values of --cfg-options, and words of --amp."""

import pytest

from gfnet_dense.cli.parser import ArgumentParser, add_amp_argument, add_config_arguments


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


@pytest.mark.parametrize(
    "words, amp",
    [
        ("c.py", None),
        ("--amp c.py", "auto"),
        ("c.py --amp", "auto"),
        ("c.py --amp --resume", "auto"),
        ("--amp float16 c.py", "float16"),
        ("c.py --amp bfloat16", "bfloat16"),
        ("c.py --amp=bfloat16", "bfloat16"),
    ],
)
def test_amp_takes_the_word_behind_it_only_if_it_is_a_precision(words, amp):
    parser = ArgumentParser()
    parser.add_argument("config")
    parser.add_argument("--resume", action="store_true")
    add_amp_argument(parser)
    args = parser.parse_args(words.split())
    assert (args.config, args.amp) == ("c.py", amp)


def test_a_parser_with_amp_says_that_arguments_are_missing(capsys):
    parser = ArgumentParser()
    parser.add_argument("config")
    add_amp_argument(parser)
    with pytest.raises(SystemExit):
        parser.parse_args([])
    assert "arguments are required: config" in capsys.readouterr().err


def test_unknown_precision_is_refused(capsys):
    parser = ArgumentParser()
    add_amp_argument(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--amp=fp16"])
    assert "invalid choice: 'fp16' (choose from" in capsys.readouterr().err
