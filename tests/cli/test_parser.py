"""Values of --cfg-options, words of --amp, and where a checkpoint that may be left out stands."""

import sys

import pytest

from gfnet_dense.cli.parser import (
    ArgumentParser,
    add_amp_argument,
    add_config_arguments,
    add_optional_checkpoint_argument,
    command_line,
)


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


@pytest.fixture(params=[False, True], ids=["a command", "a subcommand"])
def parse(request):
    """Return a function that parses words behind the command of the fixture."""
    main = ArgumentParser()
    parser, start = main, []
    if request.param:
        parser, start = main.add_subparsers(dest="command").add_parser("sub"), ["sub"]
    add_config_arguments(parser)
    add_optional_checkpoint_argument(parser, "file")
    add_amp_argument(parser)
    parser.add_argument("--scales", nargs="+", type=float)
    return lambda words: main.parse_args([*start, *words.split()])


@pytest.mark.parametrize(
    "words, checkpoint",
    [
        ("c.py", None),
        ("c.py --demo", None),
        ("--demo c.py", None),
        ("c.py --amp", None),
        ("c.py x.pth", "x.pth"),
        ("c.py --demo x.pth", "x.pth"),
        ("--work-dir w c.py --demo x.pth --scales 1 2", "x.pth"),
        ("c.py --amp x.pth", "x.pth"),
        ("c.py --amp bfloat16 x.pth --cfg-options a=1 b=2", "x.pth"),
    ],
)
def test_a_checkpoint_may_be_left_out_or_stand_behind_options(words, checkpoint, parse):
    args = parse(words)
    assert (args.config, args.checkpoint) == ("c.py", checkpoint)
    assert args.demo == ("--demo" in words) and (args.amp is not None) == ("--amp" in words)
    assert args.scales == ([1, 2] if "--scales" in words else None)


@pytest.mark.parametrize(
    "words, sentence",
    [
        ("", "the following arguments are required: config"),
        ("--demo", "the following arguments are required: config"),
        ("c.py x.pth y.pth", "unrecognized arguments: y.pth"),
        ("c.py --no-such x.pth", "unrecognized arguments: --no-such"),
        ("c.py --scales one", "invalid float value: 'one'"),
    ],
)
def test_other_words_beside_a_checkpoint_are_refused(words, sentence, parse, capsys):
    with pytest.raises(SystemExit) as error:
        parse(words)
    assert error.value.code == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, line",
    [
        (["tools/test.py", "c d.py"], "python tools/test.py 'c d.py'"),
        (["my tools/test.py"], "python 'my tools/test.py'"),
        (["gfnet-dense test", "c.py"], "gfnet-dense test c.py"),
        (["gfnet-dense/tools/test.py", "c.py"], "python gfnet-dense/tools/test.py c.py"),
    ],
)
def test_the_command_line_can_be_repeated(words, line, monkeypatch):
    monkeypatch.setattr(sys, "argv", words)
    assert command_line() == line


def test_examples_are_shown_as_the_command_was_started(monkeypatch):
    text = "Do:\n\npython tools/a_b.py x\n    python tools/other.py y"
    for program, shown in (
        ("tools/a_b.py", text),
        ("gfnet-dense a_b", "Do:\n\ngfnet-dense a_b x\n    gfnet-dense other y"),
    ):
        monkeypatch.setattr(sys, "argv", [program])
        assert shown in ArgumentParser(text).format_help()
