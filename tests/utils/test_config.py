import pytest

from gfnet_dense.utils.config import find_config, merge_options, misspelled, read_config
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


SECTIONS = [
    ("model", None, "model in the config is None"),
    ("model", 5, "model in the config is 5"),
    ("model.test_cfg", None, "model.test_cfg is None: a segmentor"),
    ("model.data_preprocessor", None, "model.data_preprocessor is None: a segmentor"),
    ("train_dataloader", 5, "train_dataloader in the config is 5: it takes a dict, or None"),
    ("val_dataloader.dataset", None, "a dataset of val_dataloader is None"),
    ("test_dataloader.dataset.pipeline", None, "the pipeline of a dataset of test_dataloader is N"),
    ("train_dataloader.dataset.dataset", 3, "a dataset of train_dataloader is 3"),
    ("train_dataloader.dataset.datasets", [None], "a dataset of train_dataloader is None"),
    ("model.backbone.arch.dims.0", 1, "do not fit the config: "),
]


@pytest.mark.parametrize(("key", "value", "sentence"), SECTIONS)
def test_a_section_of_another_form_is_refused_in_one_sentence(key, value, sentence):
    with pytest.raises(InputError, match=sentence) as error:
        merge_options(read_config(NAME), {key: value})
    assert "\n" not in str(error.value)


def test_a_key_below_a_setting_that_is_none_is_refused_in_one_sentence():
    cfg = read_config(NAME)
    with pytest.raises(InputError, match="a key leads into a value that is no dict"):
        merge_options(cfg, {"default_hooks": None, "default_hooks.logger.interval": 1})


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
