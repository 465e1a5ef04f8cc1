"""How skills scale: `python -m benchmarks.skills_scale [--skills 1000] [--out FILE]`.

Writes a folder of invented skills with descriptions as long as the standard allows, scans it as a run does,
and puts the planner's question together. Prints milliseconds of the first scan, of a scan where nothing has
changed, and of one where one skill has; and the tokens of the question.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks._results import write
from gems.memory.retrieval import estimate_tokens
from gems.nodes.planner import format_catalogue
from gems.nodes.prompts import question
from gems.skills.discovery import Place, SkillCatalogue
from gems.skills.parser import MAX_DESCRIPTION
from gems.skills.ranking import MAX_SHOWN, SkillRanking

BOUNDS = {"warm_scan_ms": 300, "planner_tokens": 3_000}
PROMPT = "a harbour at dawn with seven fishing boats, the word FRESH on a red awning, gulls above " * 2
_REPEATS = 7
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def write_skills(folder: Path, count: int) -> None:
    """Skills of the usual form: a description of 1,024 characters, a body of 400 words."""
    rng = random.Random(7)
    words = ["".join(rng.choices(_LETTERS, k=rng.randint(3, 9))) for _ in range(5000)]
    for number in range(count):
        name = f"{rng.choice(words)}-{number}"
        description = " ".join(rng.choices(words, k=220))[:MAX_DESCRIPTION].strip()
        body = "\n\n".join(" ".join(rng.choices(words, k=80)) for _ in range(5))
        (folder / name).mkdir()
        text = f"---\nname: {name}\ndescription: {description}\nlicense: MIT\n---\n\n# {name}\n\n{body}\n"
        (folder / name / "SKILL.md").write_text(text, encoding="utf-8")


def scan_ms(catalogue_: SkillCatalogue) -> float:
    """Milliseconds of one scan."""
    began = time.perf_counter()
    catalogue_.scan()
    return 1000 * (time.perf_counter() - began)


def measure(count: int) -> dict[str, float]:
    """Scan a folder again and again, and put the planner's question together."""
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        write_skills(folder, count)
        place = Place("home", folder, runs_code=True)
        first = [scan_ms(SkillCatalogue(lambda: [place])) for _ in range(_REPEATS)]
        kept = SkillCatalogue(lambda: [place])
        kept.scan()
        warm = [scan_ms(kept) for _ in range(_REPEATS)]
        changed = []
        for number in range(_REPEATS):
            file = kept.current.all()[number].folder
            if file is not None:
                (file / "SKILL.md").open("a", encoding="utf-8").write("\nMore.\n")
            changed.append(scan_ms(kept))
        skills = kept.current.all()
        ranking = SkillRanking()
        began = time.perf_counter()
        asyncio.run(ranking.most_relevant(skills, PROMPT))
        embedding = 1000 * (time.perf_counter() - began)
        began = time.perf_counter()
        shown = asyncio.run(ranking.most_relevant(skills, PROMPT))
        ranked = 1000 * (time.perf_counter() - began)
    asked = question("route", {"user_prompt": PROMPT, "skills": format_catalogue(shown)})
    return {
        "skills": len(skills),
        "first_scan_ms": statistics.median(first),
        "warm_scan_ms": statistics.median(warm),
        "changed_scan_ms": statistics.median(changed),
        "first_ranking_ms": embedding,
        "ranking_ms": ranked,
        "shown": min(len(shown), MAX_SHOWN),
        "planner_tokens": estimate_tokens(asked.system) + sum(estimate_tokens(str(part)) for part in asked.parts),
    }


def main() -> int:
    """Exit code 1 where a bound is not met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--skills", type=int, default=1000)
    parser.add_argument("--out", type=Path, help="also write the results there, as JSON")
    options = parser.parse_args()
    found = measure(options.skills)
    met = all(found[name] <= bound for name, bound in BOUNDS.items())
    if options.out:
        write(options.out, "skills_scale", {"measured": found, "bounds": BOUNDS, "met": met})
    print(f"| {found['skills']:,} skills | figure | bound |\n| --- | --- | --- |")
    for name, value in found.items():
        if name != "skills":
            print(f"| {name} | {value:,.1f} | {BOUNDS.get(name, '')} |")
    return int(not met)


if __name__ == "__main__":
    sys.exit(main())
