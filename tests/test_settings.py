"""Settings from the environment and `.env`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from gems.errors import ConfigurationError, NotOfferedError
from gems.observability.redaction import known_secrets
from gems.settings import ChatSettings, GeneratorSettings, Settings, load_settings, with_models

SECRET = "tops3cret-value"


def test_everything_is_built_in_by_default(tmp_path: Path) -> None:
    settings = load_settings()
    assert settings.home == tmp_path / "gems"
    assert settings.chat.model == settings.generator.model == "blocks"
    assert settings.chat_for("judge") == ChatSettings()
    places = (settings.ledger_path, settings.checkpoints_path, settings.locks_path)
    assert all(place.parent == settings.home for place in places)
    assert len(set(places)) == 3


def test_home_has_a_default_of_the_platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GEMS_HOME")
    assert load_settings().home.is_relative_to(tmp_path)


def test_nested_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMS_CHAT__MODEL", "openai:qwen@http://host/v1")
    monkeypatch.setenv("GEMS_CHAT__API_KEY", SECRET)
    monkeypatch.setenv("GEMS_CHAT__TIMEOUT_S", "7.5")
    monkeypatch.setenv("GEMS_CHAT__EXTRA_BODY", '{"chat_template_kwargs": {"enable_thinking": false}}')
    monkeypatch.setenv("GEMS_GENERATOR__STEPS", "8")
    monkeypatch.setenv("gems_generator__device", "cpu")
    settings = load_settings()
    assert settings.chat.model == "openai:qwen@http://host/v1"
    assert settings.chat.api_key == SecretStr(SECRET)
    assert settings.chat.timeout_s == 7.5
    assert settings.chat.extra_body == {"chat_template_kwargs": {"enable_thinking": False}}
    assert settings.generator.steps == 8
    assert settings.generator.device == "cpu"


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GEMS_CHAT__TEMPERATURE", "GEMS_CHAT__MODEL", "GEMS_GENERATOR__STEPS", "GEMS_HOME"):
        monkeypatch.setenv(name, "")
    settings = load_settings()
    assert settings.chat == ChatSettings()
    assert settings.generator == GeneratorSettings()


def test_dotenv_is_read_and_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["GEMS_CHAT__ATTEMPTS=2", "GEMS_CHAT__CONCURRENCY=3", "OPENAI_API_KEY=x", "# a comment"]
    (tmp_path / ".env").write_text("\n".join(lines))
    monkeypatch.setenv("GEMS_CHAT__ATTEMPTS", "5")
    assert (load_settings().chat.attempts, load_settings().chat.concurrency) == (5, 3)


def test_arguments_win_over_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert load_settings(home=tmp_path / "other").home == tmp_path / "other"


@pytest.mark.parametrize(
    "name",
    [
        "GEMS_CHAT__TEMPERATURE",
        "GEMS_CHAT__ATTEMPTS",
        "GEMS_JUDGE__TIMEOUT_S",
        "GEMS_CHAT__EXTRA_BODY",
        "GEMS_CHAT",
        "GEMS_GENERATOR__OFFLOAD",
        "GEMS_GENERATOR__NO_SUCH_SETTING",
        "GEMS_CHAT__APIKEY",
    ],
)
def test_a_bad_value_is_named_and_never_repeated(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, SECRET)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert name.partition("__")[0] in caught.value.message
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert ".env.example" in caught.value.hint


def test_several_faults_are_told_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMS_CHAT__ATTEMPTS", "0")
    monkeypatch.setenv("GEMS_GENERATOR__MAX_BATCH", "many")
    with pytest.raises(ConfigurationError, match=r"GEMS_CHAT__ATTEMPTS.*GEMS_GENERATOR__MAX_BATCH"):
        load_settings()


def test_a_damaged_dotenv_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"GEMS_CHAT__MODEL=\xff\xfe\n")
    with pytest.raises(ConfigurationError, match=r"\.env"):
        load_settings()


def test_a_role_differs_only_where_it_says_so() -> None:
    settings = Settings(
        chat=ChatSettings(model="openai:a@http://a/v1", api_key=SecretStr(SECRET), attempts=2, timeout_s=9),
        judge=ChatSettings(timeout_s=120.0),
    )
    judge = settings.chat_for("judge")
    assert judge.timeout_s == 120.0, "a value that equals the default was set all the same"
    assert (judge.model, judge.attempts, judge.api_key) == (settings.chat.model, 2, settings.chat.api_key)
    assert settings.chat_for("planner") == settings.chat


def test_the_judge_of_benchmarks_has_a_key_of_its_own() -> None:
    common = ChatSettings(model="openai:a@http://a/v1", api_key=SecretStr(SECRET), concurrency=3)
    settings = with_models(Settings(chat=common), eval_judge="openai:b@http://b/v1")
    judge = settings.chat_for("eval_judge")
    assert (judge.model, judge.api_key, judge.concurrency) == ("openai:b@http://b/v1", None, 3)
    keyed = Settings(eval_judge=ChatSettings(model="openai:b@http://b/v1", api_key=SecretStr("mine")))
    assert keyed.chat_for("eval_judge").api_key == SecretStr("mine")
    # A key is for one server, is never shown, and tells settings apart.
    assert with_models(keyed, eval_judge="openai:c@http://c/v1").chat_for("eval_judge").api_key is None
    assert "mine" in known_secrets(keyed)
    assert keyed.identity() != Settings().identity()


def test_a_key_goes_to_no_other_model() -> None:
    common = ChatSettings(
        model="openai:a@http://a/v1",
        api_key=SecretStr(SECRET),
        input_usd_per_million=1.0,
        output_usd_per_million=2.0,
        concurrency=3,
    )
    settings = Settings(chat=common, judge=ChatSettings(model="openai:b@http://b/v1"))
    judge = settings.chat_for("judge")
    assert judge.api_key is None
    assert judge.input_usd_per_million is judge.output_usd_per_million is None
    assert judge.concurrency == 3
    own = settings.model_copy(
        update={"judge": ChatSettings(model="openai:b@http://b/v1", api_key=SecretStr("another"))}
    )
    assert own.chat_for("judge").api_key == SecretStr("another")


@pytest.mark.parametrize(
    ("before", "after", "is_kept"),
    [
        ("langchain:anthropic:a", "langchain:anthropic:b", True),
        ("langchain:google-genai:a", "langchain:google_genai:b", True),
        ("langchain:anthropic:a", "langchain:google_genai:b", False),
        ("langchain:anthropic:a", "langchain:anthropic:b@http://host", False),
        ("langchain:anthropic:a", "openai:b", False),
        ("openai:a", "langchain:openai:b", False),
    ],
)
def test_a_key_goes_to_no_other_provider(before: str, after: str, is_kept: bool) -> None:
    common = ChatSettings(model=before, api_key=SecretStr(SECRET))
    assert (with_models(Settings(chat=common), chat=after).chat.api_key is not None) is is_kept
    assert Settings(chat=common, judge=ChatSettings(model=after)).chat_for("judge").api_key is None


@pytest.mark.parametrize(
    ("before", "after", "is_kept"),
    [
        ("openai:a", "openai:b@http://host/v1", True),
        ("langchain:ollama:a", "langchain:ollama:b@http://host", True),
        ("langchain:ollama:a", "langchain:anthropic:b", False),
        ("langchain:ollama:a", "openai:b", False),
        ("openai:a", "langchain:ollama:b", False),
    ],
)
def test_arguments_of_a_class_go_to_no_other_class(before: str, after: str, is_kept: bool) -> None:
    common = ChatSettings(model=before, extra_body={"num_ctx": 16384})
    changed = with_models(Settings(chat=common), chat=after).chat
    judge = Settings(chat=common, judge=ChatSettings(model=after)).chat_for("judge")
    assert bool(changed.extra_body) is bool(judge.extra_body) is is_kept


def test_other_models_keep_the_rest() -> None:
    settings = Settings(chat=ChatSettings(attempts=2), generator=GeneratorSettings(steps=3))
    changed = with_models(settings, chat="openai:a", judge="openai:b", generator="diffusers:c")
    assert (changed.chat.model, changed.chat.attempts) == ("openai:a", 2)
    assert (changed.generator.model, changed.generator.steps) == ("diffusers:c", 3)
    assert (changed.chat_for("judge").model, changed.chat_for("planner").model) == ("openai:b", "openai:a")
    assert with_models(settings) == settings
    assert settings.chat.model == "blocks"


def test_identity_tells_keys_apart() -> None:
    one, same, other = (Settings(generator=GeneratorSettings(api_key=SecretStr(key))) for key in ("a", "a", "b"))
    assert one.identity() == same.identity() != other.identity()


def test_printing_shows_no_key() -> None:
    settings = Settings(chat=ChatSettings(api_key=SecretStr(SECRET)))
    assert SECRET not in repr(settings) + str(settings) + settings.model_dump_json()


def test_a_key_does_not_go_along_to_another_server() -> None:
    common: Any = {"model": "openai:a@http://one/v1", "api_key": "for-one"}
    settings = Settings(chat=common, generator=common)
    elsewhere = with_models(settings, chat="openai:a@http://two/v1", generator="openai:a@https://one/v1")
    assert elsewhere.chat.api_key is None
    assert elsewhere.generator.api_key is None
    same = with_models(settings, chat="openai:b@http://one/v1", generator="openai:b@http://one/v1")
    assert same.chat.api_key == same.generator.api_key == SecretStr("for-one")


def test_a_key_configured_without_a_model_is_for_the_model_named_later() -> None:
    settings = Settings(chat={"api_key": "mine"})
    assert with_models(settings, chat="openai:a@http://one/v1").chat.api_key == SecretStr("mine")


def test_home_may_begin_with_a_tilde(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GEMS_HOME", "~/gems")
    assert load_settings().home == tmp_path / "gems"


def test_the_key_of_a_detector_stays_with_its_server() -> None:
    settings = Settings(detector="http:http://one/detect", detector_api_key=SecretStr(SECRET))
    assert with_models(settings, detector="http:http://one/other").detector_api_key == SecretStr(SECRET)
    assert with_models(settings, detector="http:http://two/detect").detector_api_key is None
    assert with_models(settings, detector="blocks").detector == "blocks"
    assert SECRET not in repr(settings) + settings.model_dump_json()
    keyed = Settings(detector_api_key=SecretStr(SECRET))
    assert keyed.detector == "off"
    assert with_models(keyed, detector="http:http://one/detect").detector_api_key == SecretStr(SECRET)


MODEL = "http:http://127.0.0.1:8001/generate"


def test_models_on_offer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMS_OFFERED_GENERATORS", json.dumps({"fast.2": {"model": MODEL, "api_key": SECRET}}))
    monkeypatch.setenv("GEMS_OFFERED_JUDGES__CAREFUL__MODEL", "openai:b@http://b/v1")
    settings = load_settings()
    assert settings.offered_generators == {"fast.2": GeneratorSettings(model=MODEL, api_key=SecretStr(SECRET))}
    assert settings.judge_for("careful") == ChatSettings(model="openai:b@http://b/v1")


@pytest.mark.parametrize("name", ["", "a b", "ä", "-a", "a/b", "x" * 41, "blocks", "gems", "a\n"])
@pytest.mark.parametrize("group", ["OFFERED_GENERATORS", "OFFERED_JUDGES"])
def test_names_of_models_on_offer(name: str, group: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"GEMS_{group}", json.dumps({name: {"model": "blocks", "api_key": SECRET}}))
    with pytest.raises(ConfigurationError, match=f"GEMS_{group}.*is no name") as caught:
        load_settings()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "value", ['{"fast": {"api_key": "%s"}}', '{"fast": "%s"}', '["%s"]', "%s", '{"fast": {"no": 1}}']
)
def test_what_is_no_model_on_offer(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMS_OFFERED_GENERATORS", value.replace("%s", SECRET))
    with pytest.raises(ConfigurationError, match="GEMS_OFFERED_GENERATORS") as caught:
        load_settings()
    assert SECRET not in str(caught.value)


def test_keys_of_models_on_offer_are_never_shown() -> None:
    keyed = GeneratorSettings(model=MODEL, api_key=SecretStr(SECRET), extra_body={"token": "another-secret"})
    judge = ChatSettings(model="openai:b@http://b/v1", api_key=SecretStr("judges-secret"))
    settings = Settings(offered_generators={"fast": keyed}, offered_judges={"careful": judge})
    secrets = {SECRET, "another-secret", "judges-secret"}
    assert secrets <= set(known_secrets(settings))
    assert not any(secret in text for secret in secrets for text in (repr(settings), str(settings)))
    assert SECRET not in settings.model_dump_json()
    other = keyed.model_copy(update={"api_key": SecretStr("x")})
    assert settings.identity() != settings.model_copy(update={"offered_generators": {"fast": other}}).identity()


def test_a_judge_on_offer_gets_no_common_key() -> None:
    common = ChatSettings(
        model="openai:a@http://a/v1", api_key=SecretStr(SECRET), concurrency=3, input_usd_per_million=1
    )
    offered = {"careful": ChatSettings(model="openai:b@http://b/v1"), "own": ChatSettings(model="x", api_key="mine")}  # type: ignore[arg-type]
    settings = Settings(chat=common, offered_judges=offered)
    judge = settings.judge_for("careful")
    assert (judge.api_key, judge.input_usd_per_million, judge.concurrency) == (None, None, 3)
    assert settings.judge_for("own").api_key == SecretStr("mine")
    chosen = with_models(settings, judge="careful")
    assert chosen.chat_for("judge") == judge
    assert chosen.chat_for("planner").api_key == SecretStr(SECRET)


def test_a_command_names_a_model_on_offer_or_a_spec() -> None:
    fast = GeneratorSettings(model=MODEL, api_key=SecretStr(SECRET))
    settings = Settings(offered_generators={"fast": fast})
    assert with_models(settings, generator="fast").generator == fast
    assert with_models(settings, generator="blocks").generator.model == "blocks"
    assert with_models(settings, generator="http:http://h").generator.model == "http:http://h"
    with pytest.raises(NotOfferedError, match=r"'fats' is not on offer.*'fast'"):
        with_models(settings, generator="fats")
    # Nothing is on offer: what is wrong is the spec.
    assert with_models(settings, judge="fats").judge.model == "fats"
