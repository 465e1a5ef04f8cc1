"""The campaign of faults, small: every fault once, and what it says where a bound is missed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

from benchmarks.faults import FAULTS, Cell, befalls
from benchmarks.faulty_world import draw, met, prompt
from gems.generation import ImageRequest

ROOT = Path(__file__).parent.parent.parent


def test_small_campaign_keeps_every_bound(tmp_path: Path) -> None:
    out = tmp_path / "faults.json"
    command = [sys.executable, "-m", "benchmarks.faults", "--quick", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=880, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(out.read_text())
    cells = {cell["fault"]: cell for cell in told["tables"]["cells"]}
    assert set(cells) == {"", *FAULTS}
    assert cells[""]["images"] == cells[""]["passed"] == cells[""]["runs"] == 8
    assert cells["429"]["calls"] > cells[""]["calls"], "the faults came"
    assert told["machine"]["cores"]


def cell(**found: int) -> Cell:
    return Cell(**({"fault": "429", "rate": 0.1, "runs": 64, "images": 64} | found))  # type: ignore[arg-type]


def test_bounds() -> None:
    assert cell().missed() == []
    assert cell(images=63).missed() == ["429 at 10%: 63 of 64 ended as they should"]
    assert cell(images=1, rate=0.3).missed() == []  # type: ignore[arg-type]
    assert cell(wrong=1).missed() == ["429 at 10%: 1 images were called passed wrongly"]
    assert cell(late=1).missed() == ["429 at 10%: 1 runs went on past their deadline"]
    crashed = cell()
    crashed.failed(KeyError("x"))
    assert crashed.missed() == ["429 at 10%: crashed: {'KeyError': 1}"]


def test_faults_befall_their_share_of_requests_and_the_same_ones_again() -> None:
    def hit() -> list[bool]:
        decided = befalls(0.3, "429")
        return [decided({"prompt": number % 100}) for number in range(2_000)]

    first = hit()
    assert hit() == first
    assert 0.25 < sum(first) / len(first) < 0.35
    assert any(a != b for a, b in zip(first[:100], first[100:200], strict=True)), "tried again, another fate"


def test_pictures_tell_the_truth_that_their_prompt_and_seed_decide() -> None:
    shown: Counter[bool] = Counter()
    for seed in range(100):
        request = ImageRequest(prompt=prompt(1), seed=seed, width=128, height=128)
        assert met(draw(request)) == met(draw(request))
        shown.update(met(draw(request)))
    assert 0.65 < shown[True] / shown.total() < 0.85
