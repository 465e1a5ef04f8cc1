"""A process that carries out or resumes a run on a machine with something wrong, and prints what came of it.

    python -m tests.support.faulty_machine HOME BASE_URL RUN WRONG

`WRONG` is `full` (nothing more can be written to any file once the first image is there), `full-at-once`,
`readonly` (the rights of an administrator to write anywhere are given up) or `nothing`. An empty `RUN` begins
one. Printed is a JSON object: the result, or the error's class, message and hint.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import resource
import struct
import sys
from pathlib import Path

from gems.errors import GemsError
from gems.events import Finished, ImageDrawn
from gems.service import Gems
from gems.settings import ChatSettings, GeneratorSettings, Settings

PROMPT = "a red cat asleep"
# From linux/capability.h: writing and reading whatever the rights of a file are, and changing these.
_OVERRIDING = (1 << 1) | (1 << 2) | (1 << 3)
_VERSION_3 = 0x20080522


def fill_disk() -> None:
    """From now on no file of this process can grow or be begun."""
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, most))


def become_ordinary() -> None:
    """Give up what root may do beyond the rights of files; changes nothing for others."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("=Ii", _VERSION_3, 0)
    held = ctypes.create_string_buffer(24)
    if libc.capget(header, held) != 0:
        raise OSError(ctypes.get_errno(), "The capabilities cannot be read.")
    values = list(struct.unpack("=6I", held.raw))
    values[0] &= ~_OVERRIDING
    if libc.capset(header, struct.pack("=6I", *values)) != 0:
        raise OSError(ctypes.get_errno(), "The capabilities cannot be given up.")


async def main(home: str, base_url: str, run_id: str, wrong: str) -> dict[str, object]:
    """What came of the run."""
    models = {"model": f"openai:stub@{base_url}", "attempts": 1}
    settings = Settings(
        home=Path(home),
        skills="none",
        chat=ChatSettings.model_validate(models),
        generator=GeneratorSettings.model_validate(models),
    )
    if wrong == "readonly":
        become_ordinary()
    try:
        async with Gems(settings) as gems:
            if wrong == "full-at-once":
                fill_disk()
            events = gems.stream_resume(run_id) if run_id else gems.stream(PROMPT, seed=7, size="128x128")
            async for event in events:
                if isinstance(event, ImageDrawn) and wrong == "full":
                    fill_disk()
                if isinstance(event, Finished):
                    return event.result.model_dump()
    except GemsError as error:
        return {"error": type(error).__name__, "message": error.message, "hint": error.hint}
    raise RuntimeError("The run ended without a result.")


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(main(*sys.argv[1:]))))
