import pytest

from gfnet_dense.utils.config import find_config, read_config
from gfnet_dense.utils.errors import InputError
from tests.conftest import ROOT, needs_operators

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


LAZY = """
from {library} import {model}
from gfnet_dense import GFNet
default_scope = None
model = dict(type={model}, backbone=dict(type=GFNet))
test_dataloader = None
"""


@pytest.mark.parametrize(
    ("library", "model", "expected"),
    [
        ("mmseg.models", "EncoderDecoder", "mmseg"),
        pytest.param("mmdet.models", "RetinaNet", "mmdet", marks=needs_operators),
    ],
)
def test_the_library_of_a_config_with_lazy_imports_is_that_of_its_model(
    library, model, expected, tmp_path
):
    """``default_scope=None`` is what mmdetection's pure Python configs have."""
    path = tmp_path / "lazy.py"
    path.write_text(LAZY.format(library=library, model=model))
    cfg = read_config(path)
    assert cfg.default_scope == expected and cfg.model.type.__name__ == model


def test_the_library_of_a_users_own_model_is_that_of_its_base(tmp_path, monkeypatch):
    (tmp_path / "own_segmentor.py").write_text(
        "from mmseg.models import EncoderDecoder\nclass Own(EncoderDecoder): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "lazy.py"
    path.write_text(LAZY.format(library="own_segmentor", model="Own"))
    assert read_config(path).default_scope == "mmseg"


def test_a_config_whose_library_is_unknown_is_refused(tmp_path):
    path = tmp_path / "old.py"
    path.write_text("model = dict(type='EncoderDecoder')\ntest_dataloader = None\n")
    with pytest.raises(InputError, match="set default_scope to mmseg or mmdet"):
        read_config(path)
