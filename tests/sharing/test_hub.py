"""The real client of the Hugging Face hub, against a server on this machine: no network."""

import pytest

from gfnet_dense import save_pretrained
from gfnet_dense.sharing.hub import ID
from tests.sharing.local_hub import TOKEN, local_hub
from tests.sharing.processes import python
from tests.sharing.small_models import small_model

pytest.importorskip("huggingface_hub")
pytest.importorskip("mmseg")
CLASSES = ["background", "field", "river"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    model = small_model(classes=CLASSES)
    return save_pretrained(model, tmp_path_factory.mktemp("shared") / "rivers")


@pytest.fixture
def hub():
    with local_hub() as server:
        yield server


def upload(hub, folder, repo, ref="main"):
    return hub.commit(repo, {path.name: path.read_bytes() for path in folder.iterdir()}, ref)


def test_a_model_is_downloaded_by_its_id_and_revision(shared, hub, tmp_path):
    sha = upload(hub, shared, "somebody/rivers")
    hub.commit("somebody/rivers", {"evil.py": b"x", "README.md": b"second"})
    hub.commit("somebody/rivers", {"config.json": b"{}"}, "draft")
    code = f"""
model = from_pretrained("somebody/rivers")
print("classes", *model.dataset_meta["classes"])
local = from_pretrained({str(shared)!r})
same = [torch.equal(a, b) for a, b in zip(model.parameters(), local.parameters(), strict=True)]
print("same", all(same), len(same) > 100)
from_pretrained("somebody/rivers", revision={sha!r})
try:
    from_pretrained("somebody/rivers", revision="draft")
except InputError as e:
    print("draft", e)
"""
    output = python(code, tmp_path, hub)
    assert "classes background field river" in output
    assert "same True True" in output
    assert "draft somebody/rivers holds no model.safetensors" in output
    names = {path.name for path in (tmp_path / "home").rglob("snapshots/*/*")}
    assert names == {"README.md", "config.json", "model.safetensors"}  # no other file comes
    assert any(f"/resolve/{sha}/" in request for request in hub.requests)


def test_a_model_that_was_fetched_is_there_without_a_network(shared, hub, tmp_path):
    upload(hub, shared, "somebody/rivers")
    python('from_pretrained("somebody/rivers")', tmp_path, hub)
    before = len(hub.requests)
    code = 'print("classes", *from_pretrained("somebody/rivers").dataset_meta["classes"])'
    assert "classes background" in python(code, tmp_path, hub, HF_HUB_OFFLINE="1")
    assert len(hub.requests) == before


def test_a_model_is_uploaded_and_comes_back_the_same(hub, tmp_path):
    code = f"""
before = dict(os.environ)
model = small_model(classes={CLASSES!r})
url = push_to_hub(model, "somebody/rivers", license="mit", private=True)
print("url", url)
push_to_hub(model, "somebody/rivers", license="apache-2.0")
back = from_pretrained("somebody/rivers")
x = torch.randn(1, 3, 64, 64)
print("same", torch.equal(model(x), back(x)))
print("environment", dict(os.environ) == before)
"""
    output = python(code, tmp_path, hub, HF_TOKEN=TOKEN)
    assert f"url {hub.url}/somebody/rivers" in output
    assert "same True" in output and "environment True" in output
    files = hub.commits["somebody/rivers"][hub.refs["somebody/rivers"]["main"]]
    assert set(files) == {".gitattributes", "README.md", "config.json", "model.safetensors"}
    card = files["README.md"].decode()
    assert card.startswith("---\nlicense: apache-2.0\n")
    assert 'from_pretrained("somebody/rivers")' in card and "`seg` and `hub`" in card
    assert hub.private["somebody/rivers"]
    assert files["model.safetensors"] in hub.large.values()


# Attempts in one process, by its environment, with words of their sentences
ERRORS = {
    "no_token": (
        {},
        [
            ('from_pretrained("somebody/nothing")', "RepositoryNotFoundError"),
            ('from_pretrained("somebody/rivers", revision="v9")', "v9"),
            ('from_pretrained("nothing")', "no folder nothing, and an id"),
            ('from_pretrained("./a/b")', "no folder ./a/b, and an id"),
            ('from_pretrained("some body/rivers!")', "no folder some body/rivers!, and an id"),
            ('push_to_hub(model, "somebody/new")', "hf auth login"),
        ],
    ),
    "wrong_token": (
        {"HF_TOKEN": "hf_wrong"},
        [('push_to_hub(model, "somebody/new")', "Invalid username or password")],
    ),
    "right_token": (
        {"HF_TOKEN": TOKEN},
        [('push_to_hub(model, "others/new")', "You have no right")],
    ),
    "offline": (
        {"HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "1"},
        [
            ('from_pretrained("somebody/rivers")', "HF_HUB_OFFLINE"),
            ('push_to_hub(model, "somebody/new")', "offline"),
        ],
    ),
    "no_server": (
        {"HF_TOKEN": TOKEN, "HF_ENDPOINT": "http://127.0.0.1:9"},
        [
            ('from_pretrained("somebody/rivers")', "cannot be fetched"),
            ('push_to_hub(model, "somebody/new")', "cannot be uploaded"),
        ],
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_of_the_hub_are_sentences(name, shared, hub, tmp_path):
    upload(hub, shared, "somebody/rivers")
    environment, attempts = ERRORS[name]
    code = f"model = from_pretrained({str(shared)!r})\n"
    for attempt, _ in attempts:
        code += f"try:\n    {attempt}\nexcept InputError as e:\n    print('sentence', e)\n"
    output = python(code, tmp_path, hub, **environment)
    lines = [line for line in output.splitlines() if line.startswith("sentence ")]
    for line, (attempt, words) in zip(lines, attempts, strict=True):
        assert words in line, attempt
    assert "somebody/new" not in hub.refs


def test_without_the_client_the_extra_is_named_before_anything_is_run(hub, tmp_path):
    code = """
sys.modules["huggingface_hub"] = None
for attempt in (lambda: push_to_hub(None, "a/b"), lambda: from_pretrained("a/b")):
    try:
        attempt()
    except InputError as e:
        print("sentence", e)
"""
    output = python(code, tmp_path, hub)
    assert output.count("pip install huggingface_hub") == 2


WRONG_IDS = ["rivers", "", "a/b/c", "/b", "a/", "a b/c", "a/b--c", "a/..", "../b", "a/b.git", None]


def test_an_id_is_checked_before_anything_is_run(hub, tmp_path):
    code = f"""
for repo_id in {WRONG_IDS!r}:
    try:
        push_to_hub(None, repo_id)
    except InputError as e:
        print("sentence", e)
"""
    output = python(code, tmp_path, hub)
    assert output.count("is USER/NAME, of letters") == len(WRONG_IDS)
    assert hub.requests == []


def test_ids_are_those_of_the_client():
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    for repo_id in [*WRONG_IDS[2:-1], "a/b", "A-b/c_d.e-1.0", "0/" + "b" * 90, "a/" + "b" * 97]:
        try:
            validate_repo_id(repo_id)
            is_valid = True
        except HFValidationError:
            is_valid = False
        assert (ID.fullmatch(repo_id) is not None) == is_valid, repo_id


def test_folders_need_no_client(shared, hub, tmp_path):
    code = f"""
sys.modules["huggingface_hub"] = None
model = from_pretrained({str(shared)!r})
print(save_pretrained(model, "again"))
"""
    assert "again" in python(code, tmp_path, hub)
