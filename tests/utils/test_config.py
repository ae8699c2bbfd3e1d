import pytest

from gfnet_dense.utils.config import find_config
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
