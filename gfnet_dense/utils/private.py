"""Taking out of a config, as data, what is private to its author and the author's machine."""

import re
from collections import Counter
from pathlib import PurePath
from typing import Any

# Settings of one run: its folder, and the files that it starts from
RUN = ("work_dir", "load_from", "resume")
# Words in the names of settings that open an account, whatever their values, by :func:`_words`
SECRET = re.compile(
    r"password|passwd|passphrase|secret|credential|authori[sz]ation|connection_?string"
    r"|(?:api|access|private|auth|account|subscription|encryption|signing|ssh)_?key"
    r"|(?:^|_)(?:pwd|auth|bearer|cookie|header|webhook)s?(?:_|$)"
)
# Others, which are secrets if they have texts: num_tokens is a setting of a model.
TEXT_SECRET = re.compile(r"(?:.*(?:_|access|auth|api|hf|hub))?(?:tokens?|pass)")
WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")  # in camelCase
# Start of a path of one machine; sqlite:///home/me/runs.db has one behind its scheme.
ABSOLUTE = re.compile(
    r"\s*(?:[/~]|\\(?:\\|\w{2,}\\)|file:|[a-z]:\\|[a-z][\w+.-]*:/(?:[^/]|//))", re.IGNORECASE
)
# Somebody's home, anywhere in a text, but within no relative path or address
HOME = re.compile(
    r"(?:(?<![\w.])|(?<=\.\.)|(?<=-\w))(?:[a-z]:)?[\\/](?:home|Users)[\\/][^\\/\s]+", re.IGNORECASE
)
ADDRESS = re.compile(r"(?<=://)\S*")  # behind its scheme
HOST = re.compile(r"(?:\[[^\[\]]*\]|[^:@\[\]]*)(?::\d*)?")  # with the number of a port
BARE_LOGIN = re.compile(r"^\s*[^\s/:@]+:(?!//)\S*@(?=[\w.-]+(?:[:/]\S*)?\s*$)")  # me:pass@host:8080
ASSIGNED = re.compile(r"([\w-]+)=([^\s;&,]+)")  # --token=k3y
QUERY = re.compile(r"[?#;&][\w.~%-]+=\S*")  # which may hold a signature


def without_private(
    config: dict[str, Any], settings: tuple[str, ...] = RUN
) -> tuple[dict[str, Any], list[str]]:
    """Return a copy of a config without what is private, and notes of what was done.

    Settings whose names are those of secrets are left out, except for None and booleans. An
    absolute path keeps its last part, an address neither login nor query. This holds for keys, too,
    and entries whose keys become the same one are left out. No note holds what it says is gone.

    Args:
        config: Data of a whole config.
        settings: Names of the settings of one run, which are left out.
    """
    left_out = [name for name in settings if config.get(name)]
    notes = [f"settings are left out: {', '.join(left_out)}"] if left_out else []
    cut = _Cut()
    public = cut.private({k: v for k, v in config.items() if k not in settings}, "")
    notes += [f"{action}: {', '.join(places)}" for action, places in cut.places.items()]
    return public, notes


class _Cut:
    """Takes out of a config what is of one machine or person.

    Attributes:
        places: Keys, joined by dots, by what was done there; each of them once, in their order.
    """

    def __init__(self) -> None:
        self.places: dict[str, dict[str, None]] = {}

    def private(self, node: Any, place: str) -> Any:
        """Return a copy of a part of the config without secrets, logins and absolute paths.

        Args:
            node: The part.
            place: Its keys without what is private, joined by dots.
        """
        if isinstance(node, dict):
            return self._dict(node, place)
        if isinstance(node, (list, tuple)):
            return type(node)(self.private(each, place) for each in node)
        if isinstance(node, bytes):
            return self._string(node.decode("latin-1"), place).encode("latin-1")
        return self._string(node, place) if isinstance(node, str) else node

    def _dict(self, node: dict, place: str) -> dict:
        keys = [self.private(key, place) for key in node]
        times, public = Counter(keys), {}
        for key, (name, value) in zip(keys, node.items(), strict=True):
            where = f"{place}.{key}".lstrip(".")
            if is_secret(name, value):
                self._note("secrets are left out", where)
            elif times[key] > 1:
                self._note("entries whose names become the same are left out", where)
            else:
                public[key] = self.private(value, where)
        return public

    def _string(self, text: str, place: str) -> str:
        public = without_secret(text)
        if public is None:
            self._note("addresses that may hold a login are left out", place)
            return ""
        if public != text:
            self._note("logins, queries and secrets are cut from texts", place)
        path = last_part(public) if ABSOLUTE.match(public) else public
        if path != public:
            self._note("absolute paths are cut to their last part", place)
        elif (path := HOME.sub("", public)) != public:
            self._note("homes are cut from texts", place)
        return path

    def _note(self, action: str, place: str) -> None:
        self.places.setdefault(action, {})[place] = None


def is_secret(name: Any, value: Any) -> bool:
    """Tell whether a setting opens an account, such as ``api_key`` of wandb's ``init_kwargs``.

    Tokens are secrets if they have texts: ``num_tokens=4`` is a setting of a model.

    Args:
        name: Key of the setting, in any way of writing: ``apiKey``, ``x-api-key``, ``API_KEY2``.
        value: Its value.
    """
    name = name.decode("latin-1") if isinstance(name, bytes) else str(name)
    is_place = "://" in name or ABSOLUTE.match(name)  # which may have the word secret in it
    if value is None or isinstance(value, bool) or is_place:
        return False
    words = _words(name)
    return bool(SECRET.search(words) or (TEXT_SECRET.fullmatch(words) and _has_text(value)))


def _words(name: str) -> str:
    """Return a name in lower case, its words joined by ``_``, without digits at its end."""
    words = re.sub(r"[\W_]+", "_", WORD_START.sub("_", name)).lower()
    return words.strip("_").rstrip("0123456789").rstrip("_")


def _has_text(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return any(_has_text(each) for each in value)
    return isinstance(value, (str, bytes))


def without_secret(text: str) -> str | None:
    """Return a text without the logins and queries of addresses, and without secrets by name.

    A password may have any sign, as people forget to escape them. None stands for a text where the
    host cannot be told from a password: ``https://a:80/b@c`` has the user a or the host a.
    """
    parts, end = [], 0
    for match in ADDRESS.finditer(text):
        address = _without_login(match[0])
        if address is None:
            return None
        parts += [text[end : match.start()], re.split("[?#;]", address)[0]]
        end = match.end()
    text = QUERY.sub("", "".join([*parts, text[end:]]))
    text = ASSIGNED.sub(lambda match: "" if is_secret(match[1], match[2]) else match[0], text)
    return BARE_LOGIN.sub("", text)


def _without_login(address: str) -> str | None:
    start = re.split("[/?#]", address)[0]  # login and host, unless a password has such a sign
    login, _, host = start.rpartition("@")
    path = address[len(start) :]
    if not HOST.fullmatch(host):
        return address.rpartition("@")[2] if "@" in path and not login else None
    before = (path if start.startswith("[") else address).rpartition("@")[0]
    return None if "@" in path and ":" in before else host + path


def last_part(path: str) -> str:
    """Return the last part of an absolute path, which is empty for a home; of / alone, itself."""
    if not path.strip(" /\\"):
        return path
    name = PurePath(HOME.sub("", path.replace("\\", "/"))).name
    return "" if name.startswith("~") else without_secret(name) or ""
