"""A hub on this machine: the few routes of the Hugging Face Hub that pushing and fetching take."""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


class Hub:
    """Repositories in memory; `faults` answers a repository with a status and the hub's word for it."""

    def __init__(self):
        self.repos: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.commits: dict[str, int] = {}
        self.objects: dict[str, bytes] = {}
        self.faults: dict[str, tuple[int, str]] = {}
        self.asked: list[str] = []
        self.token: str | None = None
        self.full = False
        self.url = ""

    def commit(self, repo: str) -> str:
        return hashlib.sha1(f"{repo} {self.commits.get(repo, 0)}".encode()).hexdigest()


@contextmanager
def serving():
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        parts = path.strip("/").split("/")
        signed = parts[0] == "lfs"  # such addresses carry their permission in them
        if self.hub.token and not signed and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            return self.say(401, {"error": "Invalid credentials"}, {"X-Error-Message": "Invalid credentials"})
        if path == "/api/validate-yaml":
            return self.say(200, {"errors": [], "warnings": []})
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if parts[0] == "lfs" and self.hub.full:
            return self.say(403, {"error": "no room"}, {"X-Error-Message": "no room"})
        if parts[0] == "lfs":
            self.hub.objects[parts[1]] = body
            return self.say(200, {})
        if path.endswith(".git/info/lfs/objects/batch"):
            return self.batch(json.loads(body))
        if parts[:2] == ["api", "models"]:
            return self.api("/".join(parts[2:4]), parts[4:], body)
        return self.resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))

    def say(self, status, plain, headers=None):
        self.send(status, json.dumps(plain).encode(), {"Content-Type": "application/json", **(headers or {})})

    def send(self, status, content, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def refused(self, repo):
        fault = self.hub.faults.get(repo) or (None if repo in self.hub.repos else (404, "RepoNotFound"))
        if fault:
            self.say(fault[0], {"error": fault[1]}, {"X-Error-Code": fault[1], "X-Error-Message": fault[1]})
        return bool(fault)

    def create(self, asked):
        repo = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
        if self.hub.faults.get(repo):
            return self.refused(repo)
        if repo in self.hub.repos:
            return self.say(409, {"error": "exists", "url": f"{self.hub.url}/{repo}"})
        self.hub.repos[repo] = {".gitattributes": b""}
        if asked.get("private") or asked.get("visibility") == "private":
            self.hub.private.add(repo)
        return self.say(200, {"url": f"{self.hub.url}/{repo}", "name": repo, "id": repo})

    def batch(self, asked):
        objects = [
            {**{k: o[k] for k in ("oid", "size")}, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{o['oid']}"}}}
            for o in asked["objects"]
        ]
        self.say(200, {"transfer": "basic", "objects": objects})

    def api(self, repo, rest, body):
        if self.refused(repo):
            return None
        files = self.hub.repos[repo]
        if rest[:1] == ["preupload"]:
            modes = [
                {
                    "path": f["path"],
                    "uploadMode": "lfs" if f["path"].endswith("safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for f in json.loads(body)["files"]
            ]
            return self.say(200, {"files": modes})
        if rest[:1] == ["commit"]:
            for line in body.splitlines():
                said = json.loads(line)
                value = said["value"]
                if said["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif said["key"] == "lfsFile":
                    files[value["path"]] = self.hub.objects[value["oid"]]
            self.hub.commits[repo] = self.hub.commits.get(repo, 0) + 1
            oid = self.hub.commit(repo)
            return self.say(
                200, {"commitUrl": f"{self.hub.url}/{repo}/commit/{oid}", "commitOid": oid, "success": True}
            )
        if rest[:1] == ["paths-info"]:
            if rest[1] not in ("main", self.hub.commit(repo)):
                return self.no_revision()
            asked = body.decode()
            names = json.loads(asked)["paths"] if asked.startswith("{") else parse_qs(asked)["paths"]
            found = [_described(name, files[name]) for name in names if name in files]
            return self.say(200, found)
        if rest[:1] == ["tree"]:
            return self.say(200, [_described(name, content) for name, content in files.items()])
        siblings = [{"rfilename": name} for name in files]
        return self.say(200, {"id": repo, "sha": self.hub.commit(repo), "siblings": siblings, "private": False})

    def no_revision(self):
        self.say(404, {"error": "no revision"}, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "no revision"})

    def resolve(self, repo, revision, name):
        if self.refused(repo):
            return None
        commit = self.hub.commit(repo)
        if revision not in ("main", commit):
            return self.no_revision()
        content = self.hub.repos[repo].get(name)
        if content is None:
            return self.say(404, {"error": "no entry"}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        etag = hashlib.sha256(content).hexdigest()
        return self.send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": commit})


def _described(name, content):
    oid = hashlib.sha1(content).hexdigest()
    return {"type": "file", "path": name, "size": len(content), "oid": oid}
