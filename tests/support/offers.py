"""Settings with models on offer: two servers that draw and judge, beside the built-in world as the default."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from gems.settings import ChatSettings, GeneratorSettings, Settings
from tests.support.stub import StubServer

KEY = "0ffered-key-4711"
PROMPT = "two green stars"
ASKED: dict[str, Any] = {"prompt": PROMPT, "seed": 3, "size": "256x256", "max_rounds": 1, "skills": "none"}
"""Options of a run that draws one image."""


def offered(near: StubServer, far: StubServer) -> dict[str, Any]:
    """The settings of both servers' models, by name: what each costs, and the key of one."""
    prices = {"input_usd_per_million": 1.0, "output_usd_per_million": 1.0}
    free = {"input_usd_per_million": 0.0, "output_usd_per_million": 0.0}
    return {
        "offered_generators": {
            "near": GeneratorSettings(model=f"http:{near.generate_url}", usd_per_image=0.25),
            "far.2": GeneratorSettings(
                model=f"openai:pictures@{far.base_url}", api_key=SecretStr(KEY), usd_per_image=0.5
            ),
        },
        "offered_judges": {
            "kind": ChatSettings(model=f"openai:kind@{near.base_url}", **free),
            "strict": ChatSettings(model=f"openai:strict@{far.base_url}", **prices),
        },
    }


def offering(home: Path, near: StubServer, far: StubServer, **more: Any) -> Settings:
    """Settings of a home with everything on offer."""
    return Settings(home=home, experience="off", **offered(near, far) | more)


def as_environment(near: StubServer, far: StubServer) -> dict[str, str]:
    """The same as variables of the environment."""
    found: dict[str, str] = {}
    for group, parts in offered(near, far).items():
        plain = {name: part.model_dump(exclude_unset=True) for name, part in parts.items()}
        for part in plain.values():
            if key := part.get("api_key"):
                part["api_key"] = key.get_secret_value()
        found[f"GEMS_{group.upper()}"] = json.dumps(plain)
    return found


def kinds(server: StubServer) -> set[str]:
    """What a server was asked for."""
    return {recorded.kind for recorded in server.requests}
