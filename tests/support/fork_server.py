"""A process that has loaded GEMS and forks for each command, which starts one in milliseconds instead of seconds.

A command is started by a small client that stands for it: it hands over its arguments, environment, folder and
standard streams, passes signals on, and ends as the command does. If the client is killed, so is the command.

This file is the server and the client as well, so it imports little.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from contextlib import ExitStack
from functools import cache
from importlib import import_module
from io import BufferedReader, BufferedWriter, FileIO, TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn

_PRELOADED = (
    *("gems.apps.cli.app", "gems.apps.cli.runner", "gems.apps.run_view", "gems.service", "gems.sync"),
    *("gems.models.blocks.chat_model", "gems.models.blocks.generator", "gems.evals.runner", "gems.evals.engines"),
    *("gems.evals.batch", "gems.runs.verification", "gems.runs.memory_admin", "gems.reporting.page"),
    *("gems.apps.server.app", "gems.apps.mcp.server"),
    *("langchain_openai", "chromadb", "rapidocr", "onnxruntime", "uvicorn", "fastapi"),
)
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_open = ExitStack()


@cache
def _address() -> str:
    """Start the server of this process, which ends with it; the path of its socket."""
    path = str(Path(_open.enter_context(tempfile.TemporaryDirectory(prefix="fork"))) / "socket")
    # Its standard input is a pipe that is closed when this process ends.
    command = [sys.executable, __file__, "serve", path]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    _open.callback(process.wait)
    _open.callback(process.communicate)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return path


def forked(module: str = "gems") -> list[str]:
    """The beginning of a command line that does what `python -m module` does; `-` for what standard input holds."""
    if not hasattr(os, "pidfd_open"):
        return [sys.executable, "-"] if module == "-" else [sys.executable, "-m", module]
    return [sys.executable, "-S", "-E", "-s", __file__, "ask", _address(), module]


def stop() -> None:
    """End the server of this process if there is one."""
    _open.close()
    _address.cache_clear()


def _ask(path: str, module: str, *arguments: str) -> None:
    """Have the server carry out a command, and end as it does."""
    asked = {"module": module, "arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}
    text = json.dumps(asked).encode()
    # A signal that comes before there is somebody to pass it to waits.
    signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        socket.send_fds(connection, [len(text).to_bytes(8)], [0, 1, 2])
        connection.sendall(text)
        pid = int.from_bytes(_receive(connection, 8))
        for number in _PASSED_ON:
            signal.signal(number, lambda number, _: os.kill(pid, number))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
        code = int.from_bytes(_receive(connection, 8), signed=True)
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _receive(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        piece = connection.recv(length - len(data))
        if not piece:
            sys.exit("The fork server is gone.")
        data += piece
    return data


def _serve(path: str) -> None:
    """Fork for each command until the standard input is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in _PRELOADED:
        import_module(name)
    # Garbage collection in a child would copy the pages of all that is loaded.
    gc.collect()
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        # Ended children leave nothing behind.
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            ready, _, _ = select.select([listener, sys.stdin], [], [])
            if sys.stdin in ready:
                return
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _supervise(connection)
            connection.close()


def _supervise(connection: socket.socket) -> None:
    """Start a command, wait for its end or for that of its client, and end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    length, streams, _, _ = socket.recv_fds(connection, 8, 3)
    asked = json.loads(_receive(connection, int.from_bytes(length)))
    pid = os.fork()
    if pid == 0:
        connection.close()
        _carry_out(asked, streams)
        return
    for stream in streams:
        os.close(stream)
    connection.sendall(pid.to_bytes(8))
    # While a command runs its client sends nothing: what can be read is its end.
    ready, _, _ = select.select([os.pidfd_open(pid), connection], [], [])
    if connection in ready:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    try:
        connection.sendall(os.waitstatus_to_exitcode(status).to_bytes(8, signed=True))
    except BrokenPipeError:
        assert connection in ready
    os._exit(0)


def _carry_out(asked: dict[str, Any], streams: list[int]) -> None:
    """Become the process of a command, and leave its module to `main`."""
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
        os.close(stream)
    for number in _PASSED_ON:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    sys.path[0] = asked["folder"]
    sys.stdin = TextIOWrapper(BufferedReader(FileIO(0, closefd=False)), "utf-8")
    sys.stdout = TextIOWrapper(BufferedWriter(FileIO(1, "w", closefd=False)), "utf-8", line_buffering=os.isatty(1))
    errors = BufferedWriter(FileIO(2, "w", closefd=False))
    sys.stderr = TextIOWrapper(errors, "utf-8", "backslashreplace", line_buffering=True)
    sys.argv = [asked["module"], *asked["arguments"]]
    raise _CommandError


class _CommandError(Exception):
    """This process is to carry out the module that `sys.argv` names."""


def _run_module() -> NoReturn:
    """Carry out the module that `sys.argv` names, and end as the interpreter does, apart from freeing memory."""
    code: Any = 0
    try:
        if sys.argv[0] == "-":
            exec(compile(sys.stdin.read(), "<stdin>", "exec"), {"__name__": "__main__"})
        else:
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except SystemExit as error:
        code = error.code
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    if not isinstance(code, int | None):
        sys.stderr.write(f"{code}\n")
        code = 1
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = 120
    os._exit(code or 0)


def main() -> None:
    """Serve, or ask a server."""
    what, *arguments = sys.argv[1:]
    if what == "ask":
        _ask(*arguments)
    try:
        _serve(*arguments)
    except _CommandError:
        # Outside of the server's frames.
        _run_module()


if __name__ == "__main__":
    main()
