"""Compare everything that outsiders rely on with a snapshot.

`tests/golden/interfaces.json` holds names, types and defaults, not texts. Renaming a module or an inner name
must not change it. Record a deliberate change of an interface with `python -m tests.test_interfaces --write`.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import io
import json
import os
import re
import sqlite3
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, get_args
from unittest.mock import patch

import chromadb
import psycopg
import pytest
import typer
from fastapi.testclient import TestClient
from mcp import Client, StdioServerParameters
from PIL import Image
from pydantic import TypeAdapter

import gems
import gems.errors
from gems.apps.cli import main

# All inner names that this test needs: a rename changes these lines and nothing else here.
from gems.apps.cli.app import app as commands
from gems.apps.cli.schemas import schemas as json_schemas
from gems.apps.server.app import create_app
from gems.apps.studio import app as studio_app
from gems.evals.harnesses import HARNESSES
from gems.events import Event
from gems.options import RunArguments as RunOptions
from gems.skills import authoring, lettering
from gems.state import Context, Input, Output
from tests.support.log_state import logging_as_before
from tests.support.postgres import running

_GOLDEN = Path(__file__).parent / "golden" / "interfaces.json"
_ROOT = Path(__file__).parents[1]
_PROMPT = "three red circles above a blue striped square"
_UNMET = "a photograph of a dog"
_LIMITS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "format")
_FOREIGN = ("GEMS_", "OPENAI_", "LANGSMITH_", "LANGCHAIN_")

# --- How things are written down.


def _kind(schema: Any, named: Mapping[str, Any] | None = None, depth: int = 0) -> str:
    """A JSON schema's type on one line; references are spelled out where `named` has them, else named."""
    if schema is True or not schema:
        return "any"
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return name if named is None or depth > 6 else _kind(named[name], named, depth + 1)
    for word in ("anyOf", "oneOf", "allOf"):
        if word in schema:
            return "|".join(_kind(part, named, depth) for part in schema[word])
    if "const" in schema or "enum" in schema:
        return "|".join(json.dumps(value) for value in schema.get("enum", [schema.get("const")]))
    found = str(schema.get("type", "any"))
    if found == "array":
        found = f"array[{_kind(schema.get('items'), named, depth)}]"
    elif "properties" in schema:
        found = f"{{{', '.join(f'{name}: {kind}' for name, kind in _fields(schema, named, depth).items())}}}"
    elif isinstance(schema.get("additionalProperties"), dict):
        found = f"object[{_kind(schema['additionalProperties'], named, depth)}]"
    limits = [f"{name}={schema[name]}" for name in _LIMITS if name in schema]
    return f"{found}({', '.join(limits)})" if limits else found


def _fields(schema: Mapping[str, Any], named: Mapping[str, Any] | None = None, depth: int = 0) -> dict[str, str]:
    """Types of an object's properties; a question mark after names that may be left out."""
    required = schema.get("required", ())
    return {
        name if name in required else f"{name}?": _kind(part, named, depth)
        + (f" = {json.dumps(part['default'])}" if "default" in part else "")
        for name, part in schema.get("properties", {}).items()
    }


def _face(thing: Any) -> Any:
    """What can be seen of a public object from outside."""
    if inspect.isclass(thing):
        if hasattr(thing, "__total__"):
            return sorted(thing.__annotations__)
        ours = [kind for kind in thing.__mro__ if kind.__module__.partition(".")[0] == "gems"]
        names = {name for kind in ours for name in [*vars(kind), *vars(kind).get("__annotations__", ())]}
        public = sorted(name for name in names if not name.startswith("_") and name != "model_config")
        plain = {name: inspect.getattr_static(thing, name, None) for name in public}
        return {name: _face(part) if inspect.isroutine(part) else "value" for name, part in plain.items()}
    if not callable(thing):
        return type(thing).__name__
    try:
        parameters = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError):
        return "callable"
    marks = {"KEYWORD_ONLY": "*", "VAR_POSITIONAL": "*...", "VAR_KEYWORD": "**"}
    return [
        marks.get(each.kind.name, "")
        + ("" if each.kind.name.startswith("VAR") else each.name)
        + ("" if each.default is each.empty else "=")
        for each in parameters
        if each.name != "self"
    ]


def _faces(module: Any, *besides: str) -> dict[str, Any]:
    names = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]
    return {name: _face(getattr(module, name)) for name in sorted({*names} - {*besides})}


def _shape(value: Any) -> Any:
    """JSON with types in place of values; of a list, the first item."""
    if isinstance(value, dict):
        return {name: _shape(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_shape(part) for part in value[:1]]
    return type(value).__name__


# --- What is written down.


def _carried_out(*arguments: str) -> tuple[int, str]:
    """`gems` within this process: its exit code and its output."""
    out = io.StringIO()
    with logging_as_before(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        try:
            main([*arguments])
        except SystemExit as ended:
            return int(ended.code or 0), out.getvalue()
    raise AssertionError("main() always exits.")


def python(_home: Path) -> dict[str, Any]:
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    langgraph = json.loads((_ROOT / "langgraph.json").read_text(encoding="utf-8"))
    targets = [langgraph["graphs"]["gems"]["path"], langgraph["http"]["app"]]
    targets += [langgraph[name]["path"].replace("studio.", "studio:") for name in ("checkpointer", "store")]
    for target in [*targets, *project["scripts"].values()]:
        module, _, name = target.partition(":")
        assert callable(getattr(import_module(module), name)), target
    named = {
        "gems.graphs.loop": "build_graph",
        "gems.models.base": "ImageGenerator",
        "gems.resources": "open_resources",
    }
    return {
        "gems": _faces(gems),
        "modules": {f"{path}.{name}": _face(getattr(import_module(path), name)) for path, name in named.items()},
        "Context": _face(Context),
        "options of runs": sorted(RunOptions.__annotations__),
        "nodes": sorted(gems.build_graph().nodes),
        "input": sorted(Input.__annotations__),
        "output": sorted(Output.__annotations__),
        "harnesses": sorted(HARNESSES),
        "authoring": _faces(authoring, "NodeContext", "Step", "Work"),
        "Work": {name: _face(getattr(authoring.Work, name)) for name in ("ask", "warn")},
        "lettering": _faces(lettering),
        "scripts": project["scripts"],
        "extras": sorted(project["optional-dependencies"]),
        "langgraph.json": {"targets": targets, "graphs": sorted(langgraph["graphs"])},
        "studio routes": [route.path for route in studio_app.routes],
    }


def command_line(_home: Path) -> dict[str, Any]:
    def told(parameter: Any) -> str:
        annotation, default = parameter.type_descriptor.annotation, parameter.default
        words = [annotation.__name__ if type(annotation) is type else str(annotation)]
        words += [f"{name}={getattr(parameter, name)}" for name in ("metavar", "min", "max", "envvar", "nargs")]
        words += [f"default={default}"] if isinstance(default, str | int | float | list | tuple) else []
        words += [name for name in ("required", "multiple", "hidden") if getattr(parameter, name, False)]
        return " ".join(word for word in words if not word.endswith(("=None", "nargs=1")))

    def walked(command: Any, path: str) -> Iterator[tuple[str, Any]]:
        options = {
            "/".join([*each.opts, *each.secondary_opts]) if each.param_type_name == "option" else str(number): each
            for number, each in enumerate(command.params)
        }
        yield path, {name: told(parameter) for name, parameter in options.items()}
        for name, child in getattr(command, "commands", {}).items():
            yield from walked(child, f"{path} {name}")

    return dict(walked(typer.main.get_command(commands), "gems"))


def exit_codes(_home: Path) -> dict[str, int]:
    quick = ("--rounds", "1", "--quiet")
    nowhere = ("--chat", "openai:none@http://127.0.0.1:9/v1")
    found = {
        "met": _carried_out("run", "two green stars", "--seed", "1", "--quiet")[0],
        "best effort": _carried_out("run", _UNMET, *quick)[0],
        "usage": _carried_out("run", "--no-such-option")[0],
        "error of the user": _carried_out("show", "no-such-run")[0],
    }
    with patch.dict(os.environ, {"GEMS_CHAT__ATTEMPTS": "1"}):
        found["error of a provider"] = _carried_out("run", "two green stars", *quick, *nowhere)[0]
    with patch.object(gems.Gems, "__aenter__", side_effect=KeyboardInterrupt):
        found["interrupted"] = _carried_out("show", "no-such-run")[0]
    return found


def variables(_home: Path) -> dict[str, str]:
    schema = gems.Settings.model_json_schema()

    def walked(part: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
        for name, field in part["properties"].items():
            inner = schema["$defs"].get(field.get("$ref", "").rpartition("/")[2])
            variable = f"{prefix}{name.upper()}"
            if inner and "properties" in inner:
                yield from walked(inner, f"{variable}__")
            else:
                yield variable, _fields({"properties": {name: field}})[f"{name}?"]

    return dict(walked(schema, "GEMS_"))


def json_output(_home: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, schema in json_schemas().items():
        for title, part in {name: schema, **schema.get("$defs", {})}.items():
            told = {"title": part.get("title"), "fields": _fields(part)} if "properties" in part else _kind(part)
            assert found.setdefault(title, told) == told, f"{title} means two things"
    return found


def errors(_home: Path) -> dict[str, Any]:
    kinds = {
        name: kind for name, kind in vars(gems.errors).items() if inspect.isclass(kind) and issubclass(kind, Exception)
    }
    return {
        name: {
            "base": kind.__base__.__name__,
            "fault": kind.fault,
            "exit_code": kind.exit_code,
            "retryable": kind.retryable,
        }
        for name, kind in kinds.items()
    } | {"faults": list(get_args(gems.errors.Fault))}


def events(_home: Path) -> dict[str, Any]:
    schema = TypeAdapter(Event).json_schema()
    kinds = {kind: target.rpartition("/")[2] for kind, target in schema["discriminator"]["mapping"].items()}
    return {kind: _fields(schema["$defs"][name]) for kind, name in kinds.items()}


def http(home: Path) -> dict[str, Any]:
    settings = gems.Settings(home=home)
    settings.serve.cors_origins = ["https://example.com"]
    server = create_app(settings)
    cors = next(each.kwargs for each in server.user_middleware if "expose_headers" in each.kwargs)
    routes = sorted({f"{route.path} {method}" for route in _routes(server) for method in _methods(route)})
    document = server.openapi()
    named = document.get("components", {}).get("schemas", {})
    operations = {
        f"{method.upper()} {path}": {
            "parameters": [
                f"{each['in']} {each['name']}: {_kind(each['schema'], named)}"
                for each in operation.get("parameters", ())
            ],
            "body": {
                kind: _kind(content["schema"], named)
                for kind, content in operation.get("requestBody", {}).get("content", {}).items()
            },
        }
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        # Bodies and parameters of these are LangServe's own.
        if not path.startswith("/gems/")
    }
    drawn = {"model": "gems", "prompt": "two green stars", "seed": 1}
    asked = {"model": "gems", "messages": [{"role": "user", "content": "two green stars"}], "seed": 1}
    with TestClient(server, base_url="http://127.0.0.1") as client:
        answers = {
            "late": client.post("/v1/chat/completions", json=asked | {"deadline_s": 1e-6}),
            "images": client.post("/v1/images/generations", json=drawn),
            "chat": client.post("/v1/chat/completions", json=asked),
        }
        paths = ("/healthz", "/readyz", "/runs", "/runs/none", "/v1/models", "/v1/models/none", "/web/")
        answers |= {path: client.get(path) for path in paths}
        run = f"/runs/{answers['chat'].headers['x-gems-run-id']}"
        (picture,) = re.findall(r"/images/\w+\.png", answers["/runs"].text)[:1]
        answers |= {"run": client.get(run), "report": client.get(f"{run}/report"), "image": client.get(picture)}
        answers["streamed chat"] = client.post("/v1/chat/completions", json=asked | {"stream": True})
        streamed = drawn | {"stream": True, "partial_images": 1, "prompt": _PROMPT, "seed": 5}
        answers["streamed images"] = client.post("/v1/images/generations", json=streamed)
        answers["begun"] = client.post("/runs", json={"prompt": "two green stars", "seed": 1})
        answers["events"] = client.get(answers["begun"].json()["events_url"])
        metrics = client.get("/metrics").text
        chain = {name: client.get(f"/gems/{name}_schema").json() for name in ("input", "output")}
    return {
        "routes": routes,
        "operations": operations,
        "langserve": {name: sorted(schema.get("properties", {})) for name, schema in chain.items()},
        "cors": {name: sorted(cors[name]) for name in ("allow_headers", "allow_methods", "expose_headers")},
        "answers": {
            name: {"status": answer.status_code, "headers": sorted(answer.headers)} | {"body": _body(answer)}
            for name, answer in answers.items()
        },
        "metrics": re.findall(r"^# TYPE (\S+ \S+)", metrics, re.MULTILINE),
        "labels": sorted({*re.findall(r"^(gems\w+\{[^=}]+=(?:\"[^\"]*\",[^=}]+=)?)", metrics, re.MULTILINE)}),
    }


def _body(answer: Any) -> Any:
    """Types of JSON, also of server-sent events by their names; of all else, the media type."""
    kind = answer.headers["content-type"].partition(";")[0]
    if kind == "application/json":
        return _shape(answer.json())
    told = re.findall(r"^(?:event: (\S+)\r?\n)?data: (\{.*)$", answer.text, re.MULTILINE)
    return {name: sorted(json.loads(data)) for name, data in told} or kind


def _methods(route: Any) -> set[str]:
    return getattr(route, "methods", None) or {"*"}


def _routes(router: Any) -> Iterator[Any]:
    for route in router.routes:
        if hasattr(route, "path"):
            yield route
        else:
            # Newer versions of FastAPI keep included routers as they are.
            yield from _routes(route.original_router)


def mcp(_home: Path) -> dict[str, Any]:
    async def asked() -> dict[str, Any]:
        kept = {name: value for name, value in os.environ.items() if name.startswith(("GEMS_", "PYTHON"))}
        process = StdioServerParameters(command=sys.executable, args=["-m", "gems", "mcp"], env=kept)
        async with Client(process) as client:
            tools = (await client.list_tools()).tools
            resources = (await client.list_resource_templates()).resource_templates
        return {
            "tools": {tool.name: _fields(tool.input_schema, tool.input_schema.get("$defs")) for tool in tools},
            "answers": {
                tool.name: _fields(tool.output_schema, tool.output_schema.get("$defs"))
                for tool in tools
                if tool.output_schema
            },
            "resources": {each.name: str(each.uri_template) for each in resources},
        }

    return asyncio.run(asked())


def disk(home: Path) -> dict[str, Any]:
    """What a run that learns, a key and a small evaluation leave behind."""
    _, out = _carried_out("run", _PROMPT, "--seed", "5", "--json")
    result = json.loads(out)
    assert len(result["rounds"]) > 1, "The run is to leave an experience."
    folder = home.parent / "evaluation"
    _carried_out("eval", "run", "blocks-bench", "--limit", "1", "--out", str(folder), "--quiet", "--harness", "single")
    _carried_out("eval", "score", str(folder))
    _carried_out("keys", "add", "alice")
    prompts = home.parent / "prompts.jsonl"
    prompts.write_text('{"id": "a", "prompt": "two green stars", "seed": 1}\n', encoding="utf-8")
    _carried_out("batch", str(prompts), "--out", str(home.parent / "batch"), "--quiet")
    tasks = json.loads(_carried_out("eval", "data", "--json")[1])
    exported = _carried_out("memory", "export")[1].splitlines()
    with Image.open(result["path"]) as image:
        texts = {str(name): str(text) for name, text in image.info.items()}
    collections = chromadb.PersistentClient(str(home / "experience")).list_collections()
    return {
        "home": _layout(home),
        "tables": {path.name: _tables(path) for path in sorted(home.glob("*.sqlite3"))},
        "png": {"chunks": sorted(texts), "gems": _shape(json.loads(texts["gems"]))},
        "parameters": re.findall(r"(?:^|, )([A-Z][\w ]*):", texts["parameters"].splitlines()[-1]),
        "chroma": sorted({_masked(each.name) for each in collections}),
        "chroma metadata": sorted({name for each in collections for name in each.metadata or {}}),
        "chroma items": sorted({name for each in collections for name in each.get()["metadatas"][0]}),
        "memory": sorted({json.dumps(_shape(json.loads(line))) for line in exported}),
        "keys.json": _shape(json.loads((home / "keys.json").read_text(encoding="utf-8"))),
        "tasks": {each["task"]: [part["language"] for part in each["prompts"]] for each in tasks["benchmarks"]},
        "evaluation": {"files": _layout(folder)} | _files(folder),
        "batch": {"files": _layout(home.parent / "batch")} | _files(home.parent / "batch"),
    }


def _masked(text: str) -> str:
    text = re.sub(r"\d{8}-\d{6}-\w+", "RUN", text)
    text = re.sub(r"^images/[0-9a-f]{2}/", "images/XX/", text)
    return re.sub(r"[0-9a-f]{16,}", "HASH", text)


def _layout(folder: Path) -> list[str]:
    """Names of files with the parts that differ masked; below `experience` they are Chroma's."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted({re.sub(r"^experience/.*", "experience/", _masked(name)) for name in names})


def _files(folder: Path) -> dict[str, Any]:
    """Keys of JSON files, and of the first line of those that are JSON Lines."""
    return {
        _masked(path.relative_to(folder).as_posix()): _shape(json.loads(text if path.suffix == ".json" else line))
        for path in sorted(folder.rglob("*.json*"))
        for text in [path.read_text(encoding="utf-8")]
        for line in text.splitlines()[:1]
    }


def _tables(path: Path) -> dict[str, list[str]]:
    with contextlib.closing(sqlite3.connect(path)) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            "user_version": [str(database.execute("PRAGMA user_version").fetchone()[0])],
            **{
                table: [f"{column[1]} {column[2]}" for column in database.execute(f"PRAGMA table_info({table})")]
                for table in sorted(tables)
                if not table.startswith("sqlite_")
            },
        }


def postgres(_home: Path, url: str) -> dict[str, list[str]]:
    with patch.dict(os.environ, {"GEMS_CHECKPOINT": url}):
        _carried_out("run", "two green stars", "--seed", "1", "--quiet")
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT table_name, column_name, data_type FROM information_schema.columns"
            " WHERE table_schema = 'public' ORDER BY table_name, ordinal_position"
        ).fetchall()
    found: dict[str, list[str]] = {}
    for table, column, kind in rows:
        found.setdefault(table, []).append(f"{column} {kind}")
    return found


_AREAS: tuple[Callable[[Path], Any], ...] = (
    *(python, command_line, exit_codes, variables, json_output, errors, events, http, mcp, disk),
)


def _flat(value: Any, path: str = "") -> set[str]:
    """A line for each leaf, so that a difference names what differs."""
    if isinstance(value, dict) and value:
        return {line for name in value for line in _flat(value[name], f"{path} > {name}")}
    if isinstance(value, list) and value:
        return {line for item in value for line in _flat(item, path)}
    return {f"{path}: {json.dumps(value)}"}


def _compare(area: str, found: Any) -> None:
    now, before = (_flat(json.loads(json.dumps(found))), _flat(json.loads(_GOLDEN.read_text(encoding="utf-8"))[area]))
    changed = [f"-{line}" for line in sorted(before - now)] + [f"+{line}" for line in sorted(now - before)]
    assert not changed, "\n".join(["The interface has changed:", *changed])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("area", _AREAS, ids=lambda area: area.__name__)
def test_interface_is_as_recorded(area: Callable[[Path], Any], tmp_path: Path) -> None:
    _compare(area.__name__, area(tmp_path / "gems"))


def test_tables_on_postgres_are_as_recorded(tmp_path: Path, database: str) -> None:
    _compare("postgres", postgres(tmp_path / "gems", database))


def _write() -> None:
    found = {}
    for name in [name for name in os.environ if name.startswith(_FOREIGN)]:
        del os.environ[name]
    with running() as server, server.database() as url:
        for area in (*_AREAS, postgres):
            with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
                os.environ |= {"HOME": folder, "GEMS_HOME": f"{folder}/gems"}
                home = Path(folder) / "gems"
                found[area.__name__] = area(home, url) if area is postgres else area(home)  # type: ignore[operator]
    _GOLDEN.write_text(f"{json.dumps(found, indent=1, ensure_ascii=False)}\n", encoding="utf-8")


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    _write()
