"""A real Ray cluster of several nodes on this machine, each with a home of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_START_S = 180
_WAIT = """
import sys, time
import ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
while sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[2]):
    time.sleep(0.1)
"""
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_LOG_TO_STDERR": "0", "RAY_DISABLE_IMPORT_WARNING": "1"}


class RayNode:
    """One node: the processes of `ray start --block`, in a group of their own."""

    def __init__(self, *arguments: str, home: Path) -> None:
        command = [
            str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats",
            "--num-cpus=1", "--num-gpus=0", "--object-store-memory=80000000", "--node-ip-address=127.0.0.1",
            *arguments,
        ]  # fmt: skip
        self.home = home
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=os.environ | _QUIET | {"GEMS_HOME": str(home)},
        )

    def kill(self) -> None:
        """All of its processes at once, as a machine that loses its power; known by their home."""
        # What is started meanwhile is found the next time.
        while alive := list(self._processes()):
            for number in alive:
                with suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
        self.process.wait(timeout=300)

    def _processes(self) -> Iterator[int]:
        mark = f"GEMS_HOME={self.home}".encode()
        for place in Path("/proc").glob("[0-9]*"):
            # Others end while they are looked at; those that have ended have no environment.
            with suppress(OSError):
                if mark in (place / "environ").read_bytes().split(b"\0"):
                    yield int(place.name)


class RayCluster:
    """Nodes that know each other.

    Attributes:
        address: As in RAY_ADDRESS.
        nodes: The first one keeps the cluster together.
    """

    def __init__(self, folder: Path, count: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        # Not below the test's folder: sockets' names must be short.
        self._temporary = tempfile.mkdtemp(prefix="gr-", dir="/tmp")
        head = ("--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={self._temporary}")
        self.nodes = [RayNode(*head, home=folder / "node-0")]
        self._wait_for_head(port)
        self.nodes += [
            RayNode(f"--address={self.address}", home=folder / f"node-{number}") for number in range(1, count)
        ]
        self._wait_for_all()

    def replace(self, number: int) -> None:
        """Start a node anew that was killed."""
        self.nodes[number] = RayNode(f"--address={self.address}", home=self.nodes[number].home)
        self._wait_for_all()

    def close(self) -> None:
        for node in reversed(self.nodes):
            node.kill()
        shutil.rmtree(self._temporary, ignore_errors=True)

    def _wait_for_all(self) -> None:
        subprocess.run(
            [sys.executable, "-c", _WAIT, self.address, str(len(self.nodes))],
            check=True, capture_output=True, timeout=_START_S, env=os.environ | _QUIET,
        )  # fmt: skip

    def _wait_for_head(self, port: int) -> None:
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            with socket.socket() as trying:
                if trying.connect_ex(("127.0.0.1", port)) == 0:
                    return
            assert self.nodes[0].process.poll() is None, "The first node did not start."
            time.sleep(0.1)
        raise TimeoutError("The cluster did not start.")


@contextmanager
def ray_cluster(folder: Path, count: int) -> Iterator[RayCluster]:
    """A cluster of `count` nodes, all killed in the end."""
    cluster = RayCluster(folder, count)
    try:
        yield cluster
    finally:
        cluster.close()
