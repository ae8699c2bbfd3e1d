"""A server on this machine that keeps models in memory and answers as the Hugging Face hub does.

It knows the calls of ``huggingface_hub`` for one download and one upload, with large files by Git
LFS (the client is to be run with ``HF_HUB_DISABLE_XET``). The client reads
``HF_ENDPOINT`` when it is imported, so that tests run it in processes of their own.
"""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_somebody"


class LocalHub(ThreadingHTTPServer):
    """The server; ``commits`` has the files of each commit, ``refs`` the commits of branches."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.commits: dict[str, dict[str, dict[str, bytes]]] = {}
        self.refs: dict[str, dict[str, str]] = {}
        self.private: dict[str, bool] = {}
        self.large: dict[str, bytes] = {}  # files in large file storage, by SHA-256
        self.requests: list[str] = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def commit(self, repo, files, ref="main"):
        """Add a commit with files by name, on top of those of the branch, and return its name."""
        parent = self.refs.setdefault(repo, {}).get(ref)
        commits = self.commits.setdefault(repo, {})
        sha = hashlib.sha1(f"{repo}{ref}{len(commits)}".encode()).hexdigest()
        commits[sha] = {**commits.get(parent, {}), **files}
        self.refs[repo][ref] = sha
        return sha


@contextmanager
def local_hub():
    """Yield a running :class:`LocalHub`."""
    with LocalHub() as hub:
        thread = threading.Thread(target=hub.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def do_POST(self):
        self.answer()

    def do_PUT(self):
        """Take a large file, by the SHA-256 that its address ends with."""
        data = self.rfile.read(int(self.headers["Content-Length"]))
        oid = self.path.rpartition("/")[2]
        self.server.large[oid] = data
        self.send({}, status=200 if hashlib.sha256(data).hexdigest() == oid else 422)

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append(f"{self.command} {path}")
        if self.command == "POST":
            return self.post(path, body)
        if match := re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)/(revision|tree)/([^/]+)", path):
            repo, kind, revision = match.groups()
            found = self.find(repo, revision)
            if found is None:
                return None
            sha, files = found
            if kind == "tree":
                return self.send([self.entry(name, data) for name, data in files.items()])
            siblings = [{"rfilename": name} for name in files]
            return self.send(dict(id=repo, modelId=repo, sha=sha, siblings=siblings))
        if match := re.fullmatch(r"/([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)", path):
            repo, revision, name = match.groups()
            found = self.find(repo, revision)
            if found is None:
                return None
            sha, files = found
            if name not in files:
                return self.fail(404, "EntryNotFound", f"no file {name}")
            headers = {"X-Repo-Commit": sha, "ETag": f'"{self.entry(name, files[name])["oid"]}"'}
            return self.send(files[name], headers)
        return self.fail(404, "", f"this hub does not know {path}")

    def post(self, path, body):
        if path == "/api/validate-yaml":
            return self.send(dict(errors=[], warnings=[]))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.fail(401, "", "Invalid username or password.")
        if path == "/api/repos/create":
            asked = json.loads(body)
            repo = f"{asked.get('organization') or 'somebody'}/{asked['name']}"
            if repo.startswith("others/"):
                return self.fail(403, "", "You have no right to create a model under others")
            if repo in self.server.refs:
                url = dict(url=f"{self.server.url}/{repo}")
                return self.send(url | dict(error="exists"), status=409)
            self.server.commit(repo, {".gitattributes": b"*.safetensors filter=lfs\n"})
            self.server.private[repo] = asked.get("private") or asked.get("visibility") == "private"
            return self.send(dict(url=f"{self.server.url}/{repo}", name=repo))
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            for each in objects:
                upload = dict(href=f"{self.server.url}/large/{each['oid']}")
                each["actions"] = dict(upload=upload)
            return self.send(dict(transfer="basic", objects=objects))
        repo, action, ref = re.fullmatch(
            r"/api/models/([\w.-]+/[\w.-]+)/(preupload|commit)/([\w.-]+)", path
        ).groups()
        if action == "preupload":
            asked = json.loads(body)["files"]
            files = [
                dict(path=name, uploadMode=self.mode(name), shouldIgnore=False)
                for name in (file["path"] for file in asked)
            ]
            return self.send(dict(files=files))
        lines = [json.loads(line) for line in body.splitlines()]
        files = {
            line["value"]["path"]: base64.b64decode(line["value"]["content"])
            for line in lines if line["key"] == "file"
        }  # fmt: skip
        for line in lines:
            if line["key"] == "lfsFile":
                files[line["value"]["path"]] = self.server.large[line["value"]["oid"]]
        sha = self.server.commit(repo, files, ref)
        url = f"{self.server.url}/{repo}/commit/{sha}"
        return self.send(dict(success=True, commitOid=sha, commitUrl=url, hookOutput=""))

    @staticmethod
    def mode(name):
        return "lfs" if name.endswith((".safetensors", ".jpg")) else "regular"

    @staticmethod
    def entry(name, data):
        return dict(type="file", path=name, size=len(data), oid=hashlib.sha1(data).hexdigest())

    def find(self, repo, revision):
        """Return the commit of a revision and its files; answer and return None without one."""
        if repo not in self.server.refs:
            return self.fail(404, "RepoNotFound", f"Repository {repo} not found")
        sha = self.server.refs[repo].get(revision, revision)
        if sha not in self.server.commits[repo]:
            return self.fail(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return sha, self.server.commits[repo][sha]

    def fail(self, status, code, message):
        headers = {"X-Error-Code": code, "X-Error-Message": message}
        self.send(dict(error=message), {k: v for k, v in headers.items() if v}, status)

    def send(self, content, headers=None, status=200):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        self.send_response(status)
        for name, value in ((headers or {}) | {"Content-Type": kind}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
