"""Tracebacks are shown to people who paste them elsewhere."""

from __future__ import annotations

import pytest

from gems.apps.cli.errors import handle_errors
from gems.errors import ServerError

KEY = "tops3cretvalue0123456789"


@pytest.mark.parametrize(
    "name", ["GEMS_CHAT__API_KEY", "GEMS_JUDGE__API_KEY", "GEMS_GENERATOR__API_KEY", "OPENAI_API_KEY"]
)
def test_traceback_tells_no_key(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(name, KEY)
    with pytest.raises(BaseException, match="1"), handle_errors(debug=True):
        raise ServerError("It failed.") from LookupError(f"you sent {KEY} ok")
    err = capsys.readouterr().err
    assert "you sent [secret] ok" in err
    assert KEY not in err


def test_traceback_of_settings_that_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GEMS_CHAT__TIMEOUT_S", "soon")
    with pytest.raises(BaseException, match="1"), handle_errors(debug=True):
        raise ServerError("It failed.") from LookupError("token=abcdefghij was sent")
    assert "token=[secret] was sent" in capsys.readouterr().err
