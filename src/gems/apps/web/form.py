"""Form of the page: prompt, options, presets of sizes."""

from __future__ import annotations

from math import sqrt
from typing import Any

from gems.apps.web.controller import has_slider
from gems.errors import OptionError, SizeError
from gems.generation import GeneratorCapabilities
from gems.options import CHOICES, Option, options_of, parse_size

_RATIOS = {"Square": (1, 1), "Landscape": (4, 3), "Portrait": (3, 4), "Wide": (16, 9), "Tall": (9, 16)}
"""Width to height, by name."""
_DRAFT = 0.25
"""Share of the pixels that drafts have."""


def size_presets(generator: GeneratorCapabilities) -> list[tuple[str, str]]:
    """Return labels and values of usual sizes that a generator supports, and of smaller ones for drafts."""
    presets = [("Automatic", "")]
    if generator.sizes is not None:
        return presets + [(f"{width}x{height}", f"{width}x{height}") for width, height in generator.sizes]
    width, height = generator.default_size
    for suffix, pixels in (("", width * height), (" draft", width * height * _DRAFT)):
        for name, (across, down) in _RATIOS.items():
            sides = (_side(pixels * across / down, generator), _side(pixels * down / across, generator))
            try:
                generator.check_size(*sides)
            except SizeError:
                # Not every generator has every shape.
                continue
            size = f"{sides[0]}x{sides[1]}"
            if size not in (known for _, known in presets):
                presets.append((f"{name} {across}:{down}{suffix} ({size})", size))
    return presets


def fitting_size(size: str | None, generator: GeneratorCapabilities) -> str:
    """Return the size if a generator supports it, else that of *Automatic*."""
    try:
        generator.check_size(*parse_size(size or ""))
    except (OptionError, SizeError):
        return ""
    return size or ""


def _side(squared: float, generator: GeneratorCapabilities) -> int:
    multiple = generator.size_multiple
    return round(sqrt(squared) / multiple) * multiple


class Form:
    """Fields and buttons that start a run; created within Gradio's blocks, of the module `gr`."""

    def __init__(self, gr: Any) -> None:
        with gr.Row(elem_id="ask", equal_height=True):
            self.prompt = gr.Textbox(
                label="Prompt", lines=1, max_lines=12, placeholder="Describe the image", elem_id="prompt", scale=1
            )
            self.generate = gr.Button("Generate", variant="primary", elem_id="draw", scale=0, min_width=140)
            self.cancel = gr.Button("Cancel", visible=False, elem_id="cancel", scale=0, min_width=140)
        options = list(options_of("web").values())
        fields: dict[str, Any] = {}
        with gr.Row(visible=False, elem_id="models") as self.models:
            for option in options:
                if option.name in CHOICES:
                    fields[option.name] = _create_field(gr, option)
        self.choices = {name: fields[name] for name in CHOICES}
        """Fields of the models, which are shown where there is a choice."""
        with gr.Accordion("Options", open=False, elem_id="options"):
            sliders = [option for option in options if has_slider(option)]
            others = [option for option in options if option not in sliders and option.name not in CHOICES]
            for row in (sliders, *(others[start : start + 3] for start in range(0, len(others), 3))):
                with gr.Row():
                    for option in row:
                        with gr.Column(min_width=220):
                            fields[option.name] = _create_field(gr, option)
                            if option.name == "seed":
                                self.lock = gr.Checkbox(
                                    label="Lock seed", info="Keep the seed of the shown run.", elem_id="lock"
                                )
        self.options = [fields[option.name] for option in options]
        """Fields of all options of the page, in their order."""
        self.rounds, self.size, self.seed = fields["max_rounds"], fields["size"], fields["seed"]


class DecisionForm:
    """What a person says about the shown image; created within Gradio's blocks, of the module `gr`."""

    def __init__(self, gr: Any) -> None:
        with gr.Column(visible=False, elem_id="feedback") as self.box:
            with gr.Row(elem_id="say", equal_height=True):
                self.words = gr.Textbox(
                    label="Feedback",
                    placeholder="What should change in the image that is shown?",
                    lines=1,
                    max_lines=8,
                    elem_id="words",
                )
                self.change = gr.Button("Change this image", visible=False, scale=0, min_width=130)
                self.go_on = gr.Button("Continue with feedback", elem_id="go-on", scale=0, min_width=130)
            with gr.Row(visible=False, elem_id="decide") as self.asked:
                names = {"accept": "Take this image", "undo": "Take the newest back", "continue": "Go on"}
                self.decisions = {
                    action: gr.Button(name, scale=0, min_width=200, size="md") for action, name in names.items()
                }


def _create_field(gr: Any, option: Option) -> Any:
    if has_slider(option):
        return gr.Slider(option.ge, option.maximum, option.default, step=1, label=option.label, buttons=[])
    about = {"label": option.label, "info": option.help}
    if option.name == "size":
        return gr.Dropdown([("Automatic", "")], value="", allow_custom_value=True, **about)
    if option.name in CHOICES:
        # The page's choices are known when it is opened, and a server that was started anew does not know them.
        return gr.Dropdown([], value=None, allow_custom_value=True, visible=False, min_width=220, label=option.label)
    if option.choices:
        return gr.Dropdown([*option.choices], value=option.default, **about)
    if option.type is bool:
        return gr.Checkbox(option.default, **about)
    return gr.Textbox(option.default, placeholder=option.default_text or None, **about)
