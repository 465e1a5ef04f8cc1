"""Theme of the page."""

from __future__ import annotations

from typing import Any


def create_theme(gr: Any) -> Any:
    """Create the theme, light and dark, of the module `gr`."""
    # System fonts, so that none is fetched; colours as in web.css.
    base = gr.themes.Base(
        primary_hue="indigo",
        neutral_hue="slate",
        radius_size="lg",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    colours = {
        "body_background_fill": ("#f5f5f8", "#101116"),
        "body_text_color_subdued": ("#5b5f6b", "#a3a8b6"),
        "block_background_fill": ("#ffffff", "#191b22"),
        "block_border_color": ("#e2e3e9", "#2d303b"),
        "block_label_text_color": ("#17181c", "#ecedf2"),
        "block_title_text_color": ("#17181c", "#ecedf2"),
        "block_info_text_color": ("#5b5f6b", "#a3a8b6"),
        "input_background_fill": ("#f0f1f6", "#22252e"),
        "input_border_color": ("#8a8f9e", "#6b7080"),
        "input_placeholder_color": ("#636876", "#9aa0ae"),
        "button_secondary_background_fill": ("#e6e7f0", "#2a2d38"),
        "button_primary_background_fill": ("#4b4ddb", "#4b4ddb"),
        "button_primary_background_fill_hover": ("#3a3cc0", "#5f61e6"),
    }
    light = {name: value for name, (value, _) in colours.items()}
    dark = {f"{name}_dark": value for name, (_, value) in colours.items()}
    sizes = {"block_border_width": "1px", "input_border_width": "1px", "block_radius": "16px"}
    return base.set(**light, **dark, **sizes)
