"""What is private in configs: secrets by their names, logins in addresses, and paths."""

import pytest

from gfnet_dense.utils.private import is_secret, without_private

SECRETS = (
    "password passwd pwd passphrase secret secret_key access_key access_key_id api_key apikey "
    "private_key auth_key account_key credential credentials authorization auth connection_string "
    "token tokens apiKey api-key x-api-key accessKey secretAccessKey AWSSecretKey APIKey HF_TOKEN "
    "hftoken accessToken AWS_ACCESS_KEY_ID client_secret password1 token_2 token_ passwords "
    "db_pass sas_token headers http_headers Cookie webhook_url connectionString password_hash "
    "wandb/api_key"
).split()
SETTINGS = (
    "token_dim tokens_per_batch tokenizer_name author custom_keys meta_keys key img_key "
    "keys bbox_head num_heads passes compass /home/secret_project/ s3://secret/"
).split()


@pytest.mark.parametrize("name", [*SECRETS, "api key", b"api_key"])
def test_a_secret_is_known_by_its_name_in_any_way_of_writing(name):
    for value in ("k3y", b"k3y", ["k3y"], dict(a="k3y"), [("user", "k3y")]):
        assert is_secret(name, value)
        config, notes = without_private(dict(a=[{name: value, "b": 1}]))
        assert config == dict(a=[dict(b=1)]) and "k3y" not in str(notes)
        assert notes[-1].startswith("secrets are left out: a.")
    for value in (None, True, False):
        assert not is_secret(name, value)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_with_a_similar_name_stays(name):
    assert not is_secret(name, "value") and not is_secret(name, 4)


def test_numbers_are_secrets_except_as_tokens():
    assert is_secret("password", 12345678) and is_secret("auth", ("user", 1))
    assert not is_secret("num_tokens", 4) and not is_secret("token", [1, 2])


TEXTS = {
    # addresses
    "s3://KEY:SECRET@bucket/x": "s3://bucket/x",
    "https://u@h": "https://h",
    "HTTPS://u:p@h": "HTTPS://h",
    "mysql+pymysql://u:p@h/db": "mysql+pymysql://h/db",
    "hdfs://user:p@@nn/": "hdfs://nn/",
    "https://u:p/q@h/x": "https://h/x",
    "https://u:p?q@h/x": "https://h/x",
    "https://u:p#q@h/x": "https://h/x",
    "https://[::1]:9000/a@b": "https://[::1]:9000/a@b",
    "https://u:p@[::1]:9000/a": "https://[::1]:9000/a",
    "https://store.org/a@b": "https://store.org/a@b",
    "https://h:80/x": "https://h:80/x",
    "docker://h/image@sha256:0a": "docker://h/image@sha256:0a",
    "curl https://u:p@h/a and https://v:q@i/b": "curl https://h/a and https://i/b",
    "user:pw@host:8080": "host:8080",
    "user:p/w@host": "host",
    "user:pw@host:/path": "path",
    # either a port or the start of a password: no guess
    "https://u:8080/S@h/x": "",
    "https://u:12/3@h": "",
    "https://h:80/a@b": "",
    "https://u:p@h/a@b": "",
    "https://u:p q@h/": "",
    "https://h/to/https://u:p@i/": "",
    # queries
    "https://h/x?sig=S": "https://h/x",
    "https://h/x?S": "https://h/x",
    "https://h/x#S": "https://h/x",
    "https://h/x;sig=S": "https://h/x",
    "see https://h/x?sig=S then y": "see https://h/x then y",
    "/data/x?token=S": "x",
    "/data/x?path=/a/S": "x",
    "data/x?token=S": "data/x",
    "run --lr=1 --token=S": "run --lr=1 ",
    "AccountName=a;AccountKey=S": "AccountName=a",
    # paths
    "/data/ade/train": "train",
    "/home/me": "",
    "/home/me/": "",
    "/home/me/x": "x",
    "/Users/me": "",
    "~": "",
    "~me": "",
    "~/x/": "x",
    "~me/x": "x",
    "C:/a/b": "b",
    r"C:\Users\me": "",
    r"set X=C:\Users\me": "set X=",
    r"C:\Users\me\x": "x",
    r"\Users\me\x": "x",
    r"\\server\share": "share",
    "file:///a/x": "x",
    "sqlite:////home/me/runs.db": "runs.db",
    "//u:p@h/x": "x",
    "//u:p@h": "h",
    "https:/u:p@h": "h",
    "-I/home/me/x": "-I/x",
    "python /home/me/x.py": "python /x.py",
    "../../home/me/data": "../../data",
}
PUBLIC = (
    "/", "", "./home/x/y", "data/home/x", "s3://bucket/home/x", "$HOME/x", r"\.bias", r"\d+\w",
    "cls", "bbox_mAP@0.5", "a: b@c", "open-mmlab://resnet50_v1c", "env://", "tcp://127.0.0.1:2950",
    "(?P<name>x)=1", "lr=1e-4", "git@host", "data/{x}?.png", "a#b",
)  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_texts_lose_what_is_private(text):
    config, notes = without_private(dict(a=text, b=(text.encode(),)))
    assert config == dict(a=TEXTS[text], b=(TEXTS[text].encode(),))
    assert all(note.endswith(": a, b") for note in notes) and bool(notes) == (text != TEXTS[text])


@pytest.mark.parametrize("text", PUBLIC)
def test_other_texts_stay(text):
    assert without_private({text or "x": [text]}) == ({text or "x": [text]}, [])


def test_keys_are_public_in_the_config_and_in_the_notes():
    key, value = "s3://KEY:S3CRET@bucket/", "s3://KEY:S3CRET@other/"
    config, notes = without_private(dict(a={key: {"b": value, "password": "S3CRET"}}))
    assert config == {"a": {"s3://bucket/": {"b": "s3://other/"}}}
    assert notes == [
        "logins, queries and secrets are cut from texts: a, a.s3://bucket/.b",
        "secrets are left out: a.s3://bucket/.password",
    ]


def test_entries_whose_keys_become_one_are_left_out_and_named():
    mapping = {"/a/data/": "s3://b1/", "/b/data/": "s3://b2/", "data/": 1, "data": 2, "/c/x": 3}
    config, notes = without_private(dict(path_mapping=mapping))
    assert config == dict(path_mapping={"data/": 1, "x": 3})
    assert notes == [
        "absolute paths are cut to their last part: path_mapping",
        "entries whose names become the same are left out: path_mapping.data",
    ]


def test_settings_of_one_run_are_left_out_and_the_config_given_stays():
    config = dict(work_dir="w", load_from=None, resume=True, model=dict(work_dir="x"), token="k3y")
    before = str(config)
    public, notes = without_private(config)
    assert public == dict(model=dict(work_dir="x"))
    assert notes == ["settings are left out: work_dir, resume", "secrets are left out: token"]
    assert str(config) == before
