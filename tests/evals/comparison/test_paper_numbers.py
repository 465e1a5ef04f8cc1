"""The paper's numbers, its averages, and the settings it draws with."""

from __future__ import annotations

import pytest

from gems.errors import OptionError
from gems.evals.comparison.paper import (
    ABLATION,
    COLUMN_TITLES,
    DOWNSTREAM,
    MAINSTREAM,
    PAPER_ROWS,
    PaperRow,
    downstream_average,
    mainstream_average,
)
from gems.evals.generator_profiles import PROFILES, generator_profile
from gems.models.generators.diffusers.presets import PRESETS


@pytest.mark.parametrize("row", PAPER_ROWS, ids=lambda row: f"{row.model} {row.method}")
def test_the_averages_come_out_of_the_rows(row: PaperRow) -> None:
    assert mainstream_average(row.values) == pytest.approx(row.mainstream, abs=0.0051)
    assert downstream_average(row.values) == pytest.approx(row.downstream, abs=0.0051)


def test_averages_by_hand() -> None:
    # (77 + 31 + 85.08 + 51.35 + 57) / 5 and (92.2 + 58.7 + 39.4667 + 43.27) / 4
    first = PAPER_ROWS[0].values
    assert mainstream_average(first) == pytest.approx(60.286)
    assert downstream_average(first) == pytest.approx(58.409, abs=0.001)


def test_no_average_without_all() -> None:
    assert mainstream_average(dict.fromkeys(MAINSTREAM[1:], 1.0)) is None
    assert downstream_average(dict.fromkeys(DOWNSTREAM[1:], 1.0)) is None


def test_rows_are_whole() -> None:
    assert len(PAPER_ROWS) == 14
    assert set(COLUMN_TITLES) == {*MAINSTREAM, *DOWNSTREAM}
    assert all(set(row.values) == set(COLUMN_TITLES) for row in PAPER_ROWS)
    best = [row.values["geneval2/en"] for row in PAPER_ROWS if row.method == "GEMS"]
    assert best == [63.5, 70.4]
    assert ABLATION["loop, memory and skills"] == best[0]


def test_generator_profiles() -> None:
    paper = generator_profile("paper", "diffusers:qwen-image")
    assert paper is not None
    assert (paper.size, paper.steps, paper.guidance, paper.negative_prompt) == ("1328x1328", 50, 4.0, "")
    recommended = generator_profile("recommended", "openai:Qwen/Qwen-Image-2512@http://h/v1")
    assert recommended is not None
    assert (recommended.true_cfg_scale, recommended.negative_prompt) == (4.0, " ")
    turbo = generator_profile("paper", "diffusers:Tongyi-MAI/Z-Image-Turbo")
    assert turbo is not None
    assert (turbo.size, turbo.steps, turbo.guidance) == ("1024x1024", 9, 0.0)
    assert generator_profile("paper", "blocks") is None
    assert generator_profile("paper", "openai:other@http://z-image/v1") is None
    with pytest.raises(OptionError, match="Unknown generator profile: 'best'"):
        generator_profile("best", "blocks")


def test_presets_draw_as_the_profiles_say() -> None:
    for profiles in PROFILES.values():
        for profile in profiles.values():
            recipe = PRESETS[profile.preset]
            named = "guidance_scale" if profile.true_cfg_scale is None else "true_cfg_scale"
            assert recipe.guidance_argument == named
            assert recipe.heeds_negative(profile.guidance) == bool(profile.negative_prompt)
