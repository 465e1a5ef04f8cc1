"""Files that come from elsewhere: experiences, keys, pictures, stored values, and what pictures say."""

from __future__ import annotations

import io
import json
import zlib
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from gems.apps.server.auth import Key, KeyFile
from gems.errors import GemsError, InvalidImageError
from gems.memory.checkpointer import checkpoint_serializer
from gems.memory.export import MAX_LINE, format_line, read_line
from gems.memory.sqlite import reading
from gems.models.images import verify_image
from gems.results import RunResult
from gems.runs.output import infotext, with_provenance
from tests.support.text_strategies import as_json, bytes_, odd_texts, shaped, texts

ENTRY = {
    "run": "20260101-000000-abcdef",
    "round": 1,
    "generator": "flat",
    "prompt": "a red cat",
    "text": "It lacks something.",
    "failed": [{"kind": "object", "question": "Is there a cat?"}],
    "score": 0.5,
}
FIELDS = (*ENTRY, "type", "key", "kinds", "sources", "by", "at", "record", "skills", "next_prompt", "score_after")
NEAR = st.tuples(st.sampled_from([*FIELDS, "x"]), shaped("shown", "helped", "hurt", "kind", "question")).map(
    lambda change: json.dumps(ENTRY | {change[0]: change[1]})
)
PNG = io.BytesIO()
Image.new("RGB", (8, 8), "red").save(PNG, "PNG")


@given(st.one_of(NEAR, as_json(shaped(*FIELDS)), odd_texts, bytes_))
@example("[" * (MAX_LINE - 1))
@example('{"round": ' + "9" * 5_000 + "}")
@example(json.dumps(ENTRY | {"at": "0001-01-01T00:00:00+23:59"}))
@example(json.dumps(ENTRY | {"at": "9999-12-31T23:59:59-23:59"}))
@example(json.dumps(ENTRY | {"record": {"shown": 2**70, "helped": 0, "hurt": 0}}))
@example(json.dumps(ENTRY | {"score": float("nan")}))
@example(json.dumps(ENTRY | {"text": "\ud800"}))
@example(b"\xff\xfe")
def test_lines_of_an_import(line: str | bytes) -> None:
    try:
        kind, key, value = read_line(line)
    except ValueError:
        return
    # What was taken in can be stored, and an export of it can be taken in again.
    json.dumps(value, allow_nan=False).encode()
    written = format_line(kind, key, value)
    if len(written.encode()) <= MAX_LINE:
        assert read_line(written) == (kind, key, value)


@given(
    as_json(shaped("keys")) | st.lists(shaped(*Key.model_fields)).map(lambda keys: json.dumps({"keys": keys})),
    odd_texts,
)
@example('{"keys": ' + "[" * 50_000, "x")
@example('{"keys": [{"name": "ann", "sha256": "\\ud800", "created": ""}]}', "\ud800")
@example('{"keys": {"name": 1}}', "")
def test_the_file_of_keys(tmp_path: Path, text: str, token: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(text, encoding="utf-8")
    keys = KeyFile(path)
    try:
        assert keys.find(token) is None or token
        made = keys.add("bob")
        found = keys.find(made)
        assert found is not None
        assert found.name == "bob"
    except GemsError:
        return
    assert KeyFile(path).all() == keys.all()


@given(
    st.one_of(
        st.binary(max_size=200),
        st.tuples(st.integers(0, 80), st.binary(min_size=1, max_size=8)).map(
            lambda change: PNG.getvalue()[: change[0]] + change[1] + PNG.getvalue()[change[0] + len(change[1]) :]
        ),
    )
)
def test_pictures(data: bytes) -> None:
    try:
        png, shown = verify_image(data, "The server")
    except InvalidImageError:
        return
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.size == shown.size


@given(st.sampled_from(["msgpack", "json", "bytes", "null", "pickle", "x", ""]), bytes_, st.booleans())
@example("msgpack", b"\xc1", False)
@example("json", b"[" * 50_000, False)
@example("msgpack", b"\x91" * 50_000, False)
def test_stored_values(kind: str, data: bytes, packed: bool) -> None:
    stored = (f"zlib+{kind}", zlib.compress(data)) if packed else (kind, data)
    try:
        with reading(Path("checkpoints.sqlite3")):
            checkpoint_serializer().loads_typed(stored)
    except GemsError:
        return


@given(texts, texts, texts, st.integers(), st.one_of(st.none(), st.floats(), texts))
@example("a\nSteps: 1, Seed: 2", "b\nNegative prompt: c", "m, Seed: 5", 7, None)
@settings(suppress_health_check=list(HealthCheck))
def test_what_pictures_say_comes_out_as_it_was_put_in(
    prompt: str, negative: str, model: str, seed: int, guidance: Any
) -> None:
    result = _result(prompt, negative, model, seed, guidance)
    data = with_provenance(PNG.getvalue(), result)
    with Image.open(io.BytesIO(data)) as picture:
        said = picture.info
        assert picture.size == (8, 8)
    assert set(said) == {"parameters", "gems"}
    told = json.loads(said["gems"])
    assert (told["prompt"], told["seed"], told["model"]) == (prompt, seed, model)
    assert said["parameters"] == infotext(result.rounds[0], result.rounds[0]["candidates"][0])
    last = said["parameters"].rpartition("\n")[2]
    assert f"Seed: {seed}" in last
    # Marks of the format get a blank before their colon.
    assert said["parameters"].replace(" :", ":").startswith(prompt.replace(" :", ":"))


def _result(prompt: str, negative: str, model: str, seed: int, guidance: Any) -> RunResult:
    candidate = {
        "index": 0,
        "image": "0" * 64,
        "seed": seed,
        "width": 8,
        "height": 8,
        "model": model,
        "parameters": {"guidance": guidance},
        "seconds": 0.0,
    }
    turn = {
        "number": 1,
        "prompt": prompt,
        "negative_prompt": negative,
        "candidates": [candidate],
        "verdicts": [],
        "best": 0,
        "score": 1.0,
        "seconds": {},
    }
    return RunResult.model_construct(
        run_id="run",
        prompt=prompt,
        final_prompt=prompt,
        best_round=1,
        rounds=[turn],
        models={},
        score=1.0,
        stop_reason="passed",
        requirements=[],
        options={},
    )
