"""The page: two methods next to each other, drawn in front of you. It fetches nothing from elsewhere."""

import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from PIL import Image

from .fields import OWN, STEP, Field
from .session import Column, Shown, Studio


os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported, which would call home
import gradio as gr


KEPT = 24  # drawings in a history
INTRODUCTION = "Two methods of guidance on the same prompt and seed. Change a setting, and draw again."
STYLE = """
.pixels img {image-rendering: pixelated; width: 100%; height: 100%; object-fit: contain}
.status .failed {color: #b3261e; font-weight: 600}
#history .grid-container {grid-template-columns: repeat(8, 1fr) !important; grid-auto-rows: max-content}
footer {display: none !important}
"""


@dataclass
class Side:
    """The components of one of the two images."""

    method: Any
    groups: list[Any] = field(default_factory=list)  # one for each method, of which one is seen
    settings: dict[str, list[Any]] = field(default_factory=dict)
    then: Any = None
    image: Any = None
    caption: Any = None

    def inputs(self) -> list[Any]:
        return [self.method, self.then, *(each for made in self.settings.values() for each in made)]


def build_page(studio: Studio, begin: Sequence[str], steps: int, examples: Sequence[str] = (), users: int = 2) -> Any:
    """The page as gradio's Blocks, with a queue: `users` draw at once, the others wait and see their place in it.

    Args:
        begin: the two methods that are chosen when the page opens.
        steps: to begin with.
        examples: prompts to click on; the first is there when the page opens.
    """
    with gr.Blocks(title="Diffusion guidance", analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        gr.Markdown(f"# Diffusion guidance\n{INTRODUCTION} Drawn with `{studio.checkpoint.name}`.")
        shared = _shared(studio, steps, examples)
        with gr.Row():
            start = gr.Button("Draw", variant="primary", elem_id="draw")
            stop = gr.Button("Stop", elem_id="stop")
        status = gr.HTML(elem_id="status", elem_classes="status")
        with gr.Row():
            sides = [_side(studio, name, number) for number, name in enumerate(begin)]
        plot = gr.Image(show_label=False, interactive=False, elem_id="plot", buttons=["download", "fullscreen"])
        with gr.Row():
            python = gr.Code(language="python", label="Python", wrap_lines=True, interactive=False, elem_id="python")
            command = gr.Code(
                language="shell", label="Command line", wrap_lines=True, interactive=False, elem_id="command"
            )
        seen = {"allow_preview": False, "buttons": [], "object_fit": "contain"}
        history = gr.Gallery(label="History: click to go back", columns=8, height=220, elem_id="history", **seen)
        entries = gr.State([])
        inputs = [*shared, *sides[0].inputs(), *sides[1].inputs()]
        outputs = [status, *(side.image for side in sides), *(side.caption for side in sides), plot, python, command]
        event = start.click(
            _drawing(studio),
            [entries, *inputs],
            [*outputs, entries, history],
            concurrency_limit=users,
            show_progress="hidden",
            show_progress_on=[status],
        )
        stop.click(lambda: _status("stopped"), None, status, cancels=[event], queue=False)
        history.select(_back, entries, [*inputs, *outputs], show_progress="hidden")
    return page.queue(max_size=64)


def _shared(studio: Studio, steps: int, examples: Sequence[str]) -> list[Any]:
    label = "Class" if studio.classes else "Prompt"
    prompt = gr.Textbox(examples[0] if examples else "", label=label, lines=1, elem_id="prompt")
    if examples:
        gr.Examples([*examples], prompt, label="Prompts to try")
    with gr.Row():
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, elem_id="seed")
        count = gr.Slider(1, max(50, steps), steps, step=1, label="Steps", elem_id="steps")
        own = studio.weight is not None
        weight = gr.Slider(
            *(0, max(15, studio.weight or 0), studio.weight or 1), step=0.1, visible=own, elem_id="weight",
            label="Pipeline's weight",
        )  # fmt: skip
    return [prompt, seed, count, weight]


def _side(studio: Studio, begin: str, number: int) -> Side:
    name = "ab"[number]
    with gr.Column():
        names = [("the pipeline's own guidance" if each == OWN else each, each) for each in studio.methods]
        side = Side(gr.Dropdown(names, value=begin, label="Method", elem_id=f"method-{name}"))
        side.image = gr.Image(
            label=f"Image {name}", interactive=False, height=320, elem_id=f"image-{name}", format="png",
            elem_classes="pixels" if studio.checkpoint.name.startswith("assets/") else None, buttons=["download"],
        )  # fmt: skip
        side.caption = gr.HTML(elem_id=f"caption-{name}", padding=False)
        for method, fields in studio.methods.items():
            with gr.Group(visible=method == begin) as group, gr.Row(equal_height=False):
                side.settings[method] = [_component(each, f"{name}-{method}-{each.name}") for each in fields]
            side.groups.append(group)
        hint = "more callbacks, such as diffier:iterations=2 or guidanceinterval"
        side.then = gr.Textbox("", label="Then", placeholder=hint, elem_id=f"then-{name}")
        methods = list(studio.methods)
        side.method.change(
            lambda chosen: [gr.Group(visible=each == chosen) for each in methods], side.method, side.groups,
            show_progress="hidden", queue=False,
        )  # fmt: skip
    return side


def _component(each: Field, name: str) -> Any:
    shown = {"label": each.name, "elem_id": name, "interactive": True, "min_width": 220}
    if each.kind == "slider":
        return gr.Slider(each.low, each.high, each.value, step=STEP, **shown)
    if each.kind == "whole":
        return gr.Number(each.value, precision=0, **shown)
    if each.kind == "switch":
        return gr.Checkbox(each.value, **shown)
    if each.kind == "word":
        return gr.Dropdown([*each.words], value=each.value, **shown)
    return gr.Textbox(each.value, placeholder="none" if each.kind == "numbers" else "", **shown)


def _drawing(studio: Studio) -> Callable[..., Iterator[list[Any]]]:
    """The function behind the button: (entries, every input) to what is shown, again and again."""

    def function(entries: list[tuple[list[Any], Shown]], *given: Any) -> Iterator[list[Any]]:
        entries = list(entries)
        for shown in studio.draw(*read(studio, given)):
            if shown.plot is not None:
                entries = [(list(given), shown), *entries][:KEPT]
                yield [
                    *_outputs(shown),
                    entries,
                    [(one.images[1], f"{said[0]}, seed {said[1]}") for said, one in entries],
                ]
            else:
                yield [*_outputs(shown), gr.skip(), gr.skip()]

    return function


def read(studio: Studio, given: Sequence[Any]) -> tuple[Any, ...]:
    """The arguments of `Studio.draw`, of the values of all inputs in the order of the page."""
    *shared, rest = *given[:4], list(given[4:])
    columns = []
    for _ in range(2):
        method, then, values = rest[0], rest[1], {}
        position = 2
        for name, fields in studio.methods.items():
            values[name] = rest[position : position + len(fields)]
            position += len(fields)
        columns.append(Column(method, values.get(method, ()), then))
        rest = rest[position:]
    return (*shared, columns)


def _back(entries: list[tuple[list[Any], Shown]], chosen: gr.SelectData) -> list[Any]:
    given, shown = entries[chosen.index]
    return [*given, *_outputs(shown)]


def _outputs(shown: Shown) -> list[Any]:
    captions = (f"<small>{escape(caption)}</small>" for caption in shown.captions)
    return [
        *(_status(shown.status, shown.failed), *shown.images, *captions, _drawn(shown.plot)),
        *(shown.python, shown.command),
    ]


def _status(sentence: str, failed: bool = False) -> str:
    kind = 'class="failed" role="alert"' if failed else 'role="status"'
    return f"<span {kind}>{escape(sentence)}</span>"


def _drawn(plot: Any) -> Image.Image | None:
    if plot is None:
        return None
    file = io.BytesIO()
    plot.savefig(file, dpi=100, format="png")
    return Image.open(file)
