"""Configs as text: written for mmengine, and read without running it."""

import pytest
from mmengine.config import Config

from gfnet_dense.utils.config_text import parse, write
from gfnet_dense.utils.errors import InputError
from tests.conftest import ROOT

NAMES = sorted(path.stem for path in (ROOT / "configs").glob("*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_a_written_config_is_the_same_for_mmengine(name):
    cfg = Config.fromfile(ROOT / "configs" / f"{name}.py", import_custom_modules=False)
    config = cfg.to_dict()
    text = write(config)
    assert parse(text, name) == parse(cfg.pretty_text, name) == config
    assert Config.fromstring(text.replace("custom_imports", "own"), ".py").model == cfg.model


def test_odd_values_are_written():
    odd = {"b.c": -1.5, "d'\"": "é'\"\n" * 50, 1: (1,), "x": [None, True, (), {}], "y": b"\0"}
    config = dict(a=odd, f="text " * 60, g=1e-300)
    text = write(config)
    assert parse(text, "it") == config
    assert Config.fromstring(text, ".py").g == 1e-300 and Config.fromstring(text, ".py").f
    assert str(parse(write(dict(a=[float("inf"), -float("inf"), float("nan")])), "it")) == (
        "{'a': [inf, -inf, nan]}"
    )
    assert write({}) == ""


def test_what_is_no_data_is_refused():
    for text in ("import os", "a = f()", "a.b = 1", "a = (", "x = " + "[" * 5000, "a = {**b}"):
        with pytest.raises(InputError, match="^it is no plain data") as caught:
            parse(text, "it")
        assert "\n" not in str(caught.value)
