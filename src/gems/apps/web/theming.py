"""Gradio theme of the page. Importing this is slow."""

from __future__ import annotations

from importlib import import_module
from typing import Any

gr: Any = import_module("gradio")


def theme() -> Any:
    """Create the theme, light and dark."""
    # System fonts, so that none is fetched; colours as in web.css.
    base = gr.themes.Base(
        primary_hue="indigo",
        neutral_hue="slate",
        radius_size="lg",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    plain = {
        "body_background_fill": "#f5f5f8",
        "body_text_color_subdued": "#5b5f6b",
        "block_background_fill": "#ffffff",
        "block_border_color": "#e2e3e9",
        "block_label_text_color": "#17181c",
        "block_title_text_color": "#17181c",
        "block_info_text_color": "#5b5f6b",
        "input_background_fill": "#f0f1f6",
        "input_border_color": "#8a8f9e",
        "input_placeholder_color": "#636876",
        "button_secondary_background_fill": "#e6e7f0",
        "button_primary_background_fill": "#4b4ddb",
        "button_primary_background_fill_hover": "#3a3cc0",
    }
    dark = {
        "body_background_fill": "#101116",
        "body_text_color_subdued": "#a3a8b6",
        "block_background_fill": "#191b22",
        "block_border_color": "#2d303b",
        "block_label_text_color": "#ecedf2",
        "block_title_text_color": "#ecedf2",
        "block_info_text_color": "#a3a8b6",
        "input_background_fill": "#22252e",
        "input_border_color": "#6b7080",
        "input_placeholder_color": "#9aa0ae",
        "button_secondary_background_fill": "#2a2d38",
        "button_primary_background_fill": "#4b4ddb",
        "button_primary_background_fill_hover": "#5f61e6",
    }
    sizes = {"block_border_width": "1px", "input_border_width": "1px", "block_radius": "16px"}
    return base.set(**plain, **{f"{name}_dark": value for name, value in dark.items()}, **sizes)
