"""A server of its own under more than it can do at once: nobody ends it, and its memory is what it was."""

import json
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.serve.conftest import photograph

httpx = pytest.importorskip("httpx2", reason="needs the extra dev")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux alone says in /proc what a process takes"),
]
CROWD, WAITING = 20, 4
LARGE = photograph(500, 700, "jpeg")
QUIET_SECONDS = 14  # after which a server that nobody asks has given back what it took
MEGABYTE = 1024


@dataclass(frozen=True)
class Server:
    address: str
    port: int
    pid: int

    def memory(self) -> float:
        """Megabytes in use, once it has been left alone for a while."""
        while self.inside():
            time.sleep(0.1)
        time.sleep(QUIET_SECONDS)
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / MEGABYTE

    def inside(self) -> int:
        return httpx.get(f"{self.address}/api/health", timeout=60).json()["inside"]

    def send(self, data: bytes = LARGE, name: str = "photo.jpg", **query):
        url = f"{self.address}/api/predict"
        return httpx.post(url, files={"image": (name, data)}, params={"samples": 1, **query}, timeout=300)

    def crowd(self) -> Counter:
        """Statuses of many who ask at once."""
        found = []
        threads = [threading.Thread(target=lambda: found.append(self.send().status_code)) for _ in range(CROWD)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return Counter(found)

    def leave(self, share: float) -> None:
        """Go while sending, or, with a share of 1, while the answer is made."""
        form = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
        body = form + LARGE + b"\r\n--x--\r\n"
        head = (
            f"POST /api/predict?samples=16 HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            f"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(head.encode() + body[: int(share * len(body))])
            time.sleep(0.5)


@pytest.fixture(scope="module")
def server(tiny_run) -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["serve", str(tiny_run), "--port", str(port), "--waiting", str(WAITING), "--seconds", "300"]
    process = subprocess.Popen([sys.executable, "-m", "diffusionmtl", *words])
    found = Server(f"http://127.0.0.1:{port}", port, process.pid)
    try:
        for _ in range(600):
            with suppress(httpx.TransportError):
                found.inside()
                break
            assert process.poll() is None
            time.sleep(0.2)
        yield found
        assert process.poll() is None
    finally:
        process.terminate()
        process.wait(timeout=60)


def test_whatever_comes_at_once_it_goes_on_and_its_memory_comes_back(server):
    assert server.send(photograph()).status_code == 200
    before = server.memory()
    assert server.crowd() == {200: 1 + WAITING, 503: CROWD - 1 - WAITING}
    refused = server.send(bytes(100_000_000), "large.png")
    assert refused.status_code == 413 and "send a smaller file" in refused.json()["detail"]
    refused = server.send(b"Dear all,\nthis is a letter.\n")
    assert refused.status_code == 415 and "not a readable image" in refused.json()["detail"]
    server.leave(0.5)
    server.leave(1.0)
    after = server.memory()
    print(json.dumps({"before": round(before), "after": round(after)}))
    # The allocator would keep 700 MB of what a crowd takes.
    assert after < before + 300
    assert server.send(photograph()).status_code == 200
