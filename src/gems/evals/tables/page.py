"""A comparison as one self-contained HTML page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from markupsafe import Markup

from gems._version import __version__
from gems.evals.comparison.sections import Section
from gems.evals.tables.pictures import PromptImages
from gems.reporting.templates import environment, policy_hash


@dataclass(frozen=True, slots=True, kw_only=True)
class SectionView:
    """A section with its plot (SVG or None) and its prompts with images."""

    section: Section
    plot: bytes | None
    sides: Sequence[PromptImages]

    @property
    def plot_url(self) -> str:
        """The plot as a data URL: as an image it can neither load nor run anything."""
        return (
            "" if self.plot is None else f"data:image/svg+xml;base64,{base64.b64encode(self.plot).decode()}"
        )


def render_page(shown: Sequence[SectionView]) -> str:
    """Render the page; texts of prompts and judges are escaped. Blocking."""
    style = files("gems.evals.comparison").joinpath("compare.css").read_text(encoding="utf-8")
    return (
        environment("gems.evals.comparison")
        .get_template("compare.html.jinja")
        .render(
            version=__version__,
            # From this package; everything else on the page is data.
            style=Markup(style),  # noqa: S704
            style_hash=policy_hash(style),
            shown=shown,
        )
    )
