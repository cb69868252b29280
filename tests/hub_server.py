"""A small server that plays the Hub for the real huggingface_hub client, as far as pushing and loading need it.

    with HubServer() as hub:
        subprocess.run([...], env={**os.environ, **hub.environment(tmp_path)})
        hub.repos["dataset", "me/corpus"].files["README.md"]

The client reads its settings when it is imported, so it runs in a subprocess with `environment`. Reading a private
repository, and all writing, wants the server's token. There are no branches and tags but main; each commit can be
asked for by its hash.
"""

import base64
import hashlib
import http.server
import json
import re
import threading
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_token_of_the_tests"
PLURALS = {"models": "model", "datasets": "dataset"}
# Of a path: /api/datasets/me/name/<rest>, /datasets/me/name/resolve/main/<file>, /me/model.git/info/lfs/objects/batch
API = re.compile(r"/api/(?P<kind>models|datasets)/(?P<id>[^/]+/[^/]+)(?:/(?P<verb>[^/]+)(?:/(?P<rest>.*))?)?")
FILE = re.compile(r"/(?:(?P<kind>datasets)/)?(?P<id>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
LFS = re.compile(r"/(?:(?P<kind>datasets)/)?(?P<id>[^/]+/[^/]+)\.git/info/lfs/objects/batch")


class Repo:
    """A repository: its files as path -> content, and the messages of its commits, oldest first."""

    def __init__(self, private: bool):
        self.private = private
        self.files: dict[str, bytes] = {".gitattributes": b""}
        self.large: set[str] = set()  # of these the paths that came as LFS files
        self.commits: list[str] = []
        self.history: dict[str, dict[str, bytes]] = {}  # the files at each revision so far

    @property
    def revision(self) -> str:
        """A commit hash that changes with every commit."""
        return hashlib.sha1(repr(self.commits).encode()).hexdigest()

    def at(self, revision: str) -> tuple[str, dict[str, bytes]]:
        """Commit hash and files of "main" or a commit."""
        if revision in ("main", self.revision):
            return self.revision, self.files
        if revision not in self.history:
            raise _Refused(404, "RevisionNotFound", f"no revision {revision}")
        return revision, self.history[revision]

    def commit(self, message: str, changes: dict[str, bytes | None]) -> None:
        """One more commit: path -> new content, or `None` for a file that goes."""
        self.history[self.revision] = dict(self.files)
        self.commits.append(message)
        for path, content in changes.items():
            if content is None:
                del self.files[path]
            else:
                self.files[path] = content

    def oid(self, path: str) -> str | None:
        """What the client compares its own file with: SHA-256 of a large file, git's SHA-1 of another."""
        if path not in self.files:
            return None
        return hashlib.sha256(self.files[path]).hexdigest() if path in self.large else _git_oid(self.files[path])


class HubServer:
    """Serves from `start` to `stop`, or within `with`.

    Attributes:
        repos: ("dataset" or "model", id) -> `Repo`.
        blobs: SHA-256 -> content of the large files that were brought up, committed or not.
        uploads: number of large files that were brought up.
        refuse_uploads: how many large files are yet to be answered with 403.
        break_uploads: in the middle of how many large files the connection is yet to be closed, after those refused.
        refuse_commits: how many commits are yet to be answered with 403, after their files were brought up.
    """

    def __init__(self):
        self.repos: dict[tuple[str, str], Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.uploads = 0
        self.refuse_uploads = 0
        self.break_uploads = 0
        self.refuse_commits = 0
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def environment(self, home: Path) -> dict[str, str]:
        """Variables that send huggingface_hub and datasets to this server, with their caches under `home`."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_TOKEN": TOKEN,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_OFFLINE": "0",
            "HF_DATASETS_OFFLINE": "0",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            "NO_PROXY": "127.0.0.1",
        }

    def start(self) -> "HubServer":
        self._thread.start()
        return self

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    __enter__ = start

    def __exit__(self, *error) -> None:
        self.stop()


class _Refused(Exception):
    """An answer that is an error: status, error code for the client, message."""


class _Handler(http.server.BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body go out apart, and an answer would wait 40 ms in between

    def log_message(self, *args) -> None:
        pass

    def _serve(self) -> None:
        address = urlsplit(self.path)
        self.query, path = parse_qs(address.query), unquote(address.path)
        length = int(self.headers.get("Content-Length") or 0)
        if self.command == "PUT" and self.hub.break_uploads and not self.hub.refuse_uploads:
            self.hub.break_uploads -= 1
            self.rfile.read(length // 2)
            self.close_connection = True
            return None
        self.body = self.rfile.read(length)
        try:
            for pattern, answer in ((API, self._api), (LFS, self._lfs), (FILE, self._file)):
                match = pattern.fullmatch(path)
                if match:
                    return answer(**match.groupdict())
            if path == "/api/repos/create":
                return self._create(**json.loads(self.body))
            if path == "/api/validate-yaml":
                return self._answer({"errors": [], "warnings": []})
            if path.startswith("/blobs/"):
                return self._store(path.removeprefix("/blobs/"))
            raise _Refused(404, "EntryNotFound", f"the test server has no {self.command} {path}")
        except _Refused as refusal:
            status, code, message = refusal.args
            self._answer({"error": message}, status, {"X-Error-Code": code, "X-Error-Message": message})

    do_GET = do_HEAD = do_POST = do_PUT = _serve

    def _answer(self, content: dict | list | bytes, status: int = 200, headers: dict | None = None) -> None:
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(content), **(headers or {})}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _authorized(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _writer(self) -> None:
        if not self._authorized():
            raise _Refused(401, "InvalidToken", "writing needs the token")

    def _repo(self, kind: str | None, id: str) -> Repo:
        repo = self.hub.repos.get((PLURALS[kind or "models"], id))
        if repo is None or repo.private and not self._authorized():
            raise _Refused(404, "RepoNotFound", f"no repository {id}")
        return repo

    def _create(self, name: str, organization: str, type: str = "model", **options) -> None:
        """The client says `private` in old versions and `visibility` in new ones."""
        self._writer()
        id = f"{organization}/{name}"
        url = f"{self.hub.url}/{'datasets/' if type == 'dataset' else ''}{id}"
        if (type, id) in self.hub.repos:
            return self._answer({"error": "You already created this repo", "url": url}, 409)
        private = options.get("private") or options.get("visibility") == "private"
        self.hub.repos[type, id] = Repo(bool(private))
        self._answer({"url": url, "id": id, "name": id})

    def _api(self, kind: str, id: str, verb: str | None, rest: str | None) -> None:
        repo = self._repo(kind, id)
        if verb in (None, "revision"):
            sha, files = repo.at(rest or "main")
            names = [{"rfilename": path} for path in sorted(files)]
            # The Hub reads these two from the card.
            card = dict(re.findall(r"^(pipeline_tag|library_name): (.+)$", files.get("README.md", b"").decode(), re.M))
            self._answer({"id": id, "private": repo.private, "sha": sha, "siblings": names, "tags": [], **card})
        elif verb == "tree":
            revision, _, folder = (rest or "main").partition("/")
            recursive = self.query.get("recursive", ["false"])[0].lower() == "true"
            self._answer(self._tree(repo.at(revision)[1], folder, recursive))
        elif verb == "paths-info":
            form = json.loads(self.body) if self.body[:1] == b"{" else parse_qs(self.body.decode())
            tree = {entry["path"]: entry for entry in self._tree(repo.at(rest or "main")[1], "", True)}
            self._answer([tree[path] for path in form["paths"] if path in tree])
        elif verb == "preupload":
            self._writer()
            files = json.loads(self.body)["files"]
            # The Hub decides by .gitattributes and content; here: what is not text by its name is large.
            large = (".json", ".md", ".py", ".txt", ".yaml")
            modes = {file["path"]: "regular" if file["path"].endswith(large) else "lfs" for file in files}
            answers = [
                {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": repo.oid(path)}
                for path, mode in modes.items()
            ]
            self._answer({"files": answers})
        elif verb == "commit":
            self._writer()
            self._commit(repo, f"{self.hub.url}/{'datasets/' if kind == 'datasets' else ''}{id}")
        else:
            raise _Refused(404, "EntryNotFound", f"the test server has no {self.path}")

    def _tree(self, files: dict[str, bytes], folder: str, recursive: bool) -> list[dict]:
        prefix = f"{folder}/" if folder else ""
        entries = {}
        for path, content in sorted(files.items()):
            if not path.startswith(prefix):
                continue
            inside = path.removeprefix(prefix).split("/")
            for depth in range(1, len(inside)):
                sub = prefix + "/".join(inside[:depth])
                if recursive or depth == 1:
                    entries[sub] = {"type": "directory", "path": sub, "oid": _git_oid(sub.encode()), "size": 0}
            if recursive or len(inside) == 1:
                entries[path] = {"type": "file", "path": path, "oid": _git_oid(content), "size": len(content)}
        if not entries and folder:
            raise _Refused(404, "EntryNotFound", f"no folder {folder}")
        return list(entries.values())

    def _lfs(self, kind: str | None, id: str) -> None:
        self._writer()
        self._repo(kind, id)
        objects = []
        for item in json.loads(self.body)["objects"]:
            action = {"upload": {"href": f"{self.hub.url}/blobs/{item['oid']}"}}
            objects.append({**item, **({} if item["oid"] in self.hub.blobs else {"actions": action})})
        self._answer({"transfer": "basic", "objects": objects})

    def _store(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise _Refused(400, "BadRequest", "the content is not what was announced")
        if self.hub.refuse_uploads:
            self.hub.refuse_uploads -= 1
            raise _Refused(403, "Forbidden", "no large files today")
        self.hub.blobs[oid] = self.body
        self.hub.uploads += 1
        self._answer({})

    def _commit(self, repo: Repo, url: str) -> None:
        if self.hub.refuse_commits:
            self.hub.refuse_commits -= 1
            raise _Refused(403, "Forbidden", "no commits today")
        message, changes = "", {}
        for line in map(json.loads, self.body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                message = value["summary"]
            elif line["key"] == "file":
                changes[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                changes[value["path"]] = self.hub.blobs[value["oid"]]
                repo.large.add(value["path"])
            elif line["key"] == "deletedFile":
                changes[value["path"]] = None
                repo.large.discard(value["path"])
            else:
                raise _Refused(400, "BadRequest", f"the test server knows no {line['key']}")
        repo.commit(message, changes)
        self._answer({"commitUrl": f"{url}/commit/{repo.revision}", "commitOid": repo.revision})

    def _file(self, kind: str | None, id: str, revision: str, path: str) -> None:
        sha, files = self._repo(kind, id).at(revision)
        if path not in files:
            raise _Refused(404, "EntryNotFound", f"no file {path}")
        content = files[path]
        headers = {"X-Repo-Commit": sha, "ETag": f'"{_git_oid(content)}"', "Accept-Ranges": "bytes"}
        ranged = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not ranged:
            return self._answer(content, headers=headers)
        first, last = int(ranged[1]), min(int(ranged[2] or len(content)), len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        self._answer(content[first : last + 1], 206, headers)


def _git_oid(content: bytes) -> str:
    """What git names a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
