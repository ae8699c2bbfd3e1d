import pytest

from gfnet_dense.utils.config import find_config, misspelled, read_config
from gfnet_dense.utils.errors import InputError
from tests.conftest import ROOT

NAME = "upernet_gfnet_ade20k"


@pytest.mark.parametrize("name", [NAME, f"{NAME}.py", f"configs/{NAME}", f"configs/{NAME}.py"])
def test_a_config_of_the_project_is_found_by_name_from_any_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config(name).resolve() == ROOT / "configs" / f"{NAME}.py"


def test_a_file_comes_before_a_config_of_the_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"{NAME}.py").touch()
    assert find_config(f"{NAME}.py").resolve() == tmp_path / f"{NAME}.py"


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "/",
        "..",
        "none",
        f"{NAME}.yaml",
        f"other/{NAME}.py",
        f"/{NAME}.py",
        "_base_",
        "a\nb",
    ],
)
def test_other_names_are_refused_in_one_sentence(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="does not exist: give a file, or the name of a config"):
        find_config(name)


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("load_form", "load_from"),
        ("trian_cfg.max_iters", "train_cfg.max_iters"),
        ("train_cfg.max_iter", "train_cfg.max_iters"),
        ("param_scheduler.0.ennd", "param_scheduler.0.end"),
        ("model.decode_head.num_class", "model.decode_head.num_classes"),
    ],
)
def test_an_option_that_may_be_misspelled(key, meant):
    assert misspelled(read_config(NAME), key) == meant


@pytest.mark.parametrize(
    "key",
    [
        "train_cfg.max_iters",  # in the config
        "param_scheduler.1.end",
        "randomness.seed",  # not in it, but read
        "val_dataloader.dataset.indices",
        "model.backbone.with_cp",
        "model.backbone.drop_path_rate",
        "auto_scale_lr.enable",
        "model.decode_head.ignore_index",  # there is in_index
    ],
)
def test_other_options_are_not_taken_for_misspelled(key):
    assert misspelled(read_config(NAME), key) is None
