"""A page to play on: two methods of guidance next to each other on the same prompt and seed.

    diffusion-guidance play
    diffusion-guidance play stabilityai/stable-diffusion-3.5-medium --dtype bfloat16 --steps 28 \\
        --compare cfg:weight=4.5 --compare raag:w_max=18,alpha=12

Every setting of every method, a preview of each step, ratio, weight and error, and the Python and the command line that
draw exactly what is shown. Only this machine can open it unless --host says otherwise; nothing is fetched or sent.
Needs the extra `play`: pip install 'diffusion-guidance[play]'
"""

import inspect
import socket
from argparse import Namespace

from .arguments import at_least
from .check_call import check_call
from .failures import is_bad_input, sentence
from .options import Call, Model
from .parser import Parser, kind


BEGIN = ("cfg:weight=5", "raag:w_max=9.54,alpha=4.26")  # the same late weight on the shipped emoji, see docs/emoji.md
#: What the shipped checkpoints are called with; users give --call.
SHIPPED = {name: {"max_sequence_length": 1} for name in ("assets/emoji", "assets/shapes")}
WEIGHT = 3.0  # of the shipped checkpoints' own guidance


def parser(prog: str) -> Parser:
    parse = Parser(prog=prog, description=__doc__)
    Model.add(parse, default="assets/emoji")
    Call.add(parse, steps=10)
    text = f"a method to begin with, as for --guidance; twice: left and right (default {' and '.join(BEGIN)})"
    parse.add_argument("--compare", action="append", default=[], metavar="METHOD", help=text)
    parse.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 opens it to the network")
    text = "to listen on (default: the first free one from 7860)"
    parse.add_argument("--port", type=kind(port), metavar="N", help=text)
    text = "how many draw at once; others wait (default 2)"
    parse.add_argument("--users", type=kind(at_least(1)), default=2, metavar="N", help=text)
    return parse


def run(args: Namespace) -> None:
    from ..play.fields import read_start

    if len(args.compare) > 2:
        raise ValueError(f"--compare is given {len(args.compare)} times; the page has two methods")
    check_address(args.host, args.port)
    chosen = [read_start(text) for text in (*args.compare, *BEGIN[len(args.compare) :])]
    _serve(args, chosen)


def _serve(args: Namespace, chosen: list[tuple[str, dict]]) -> None:
    """Load the pipeline, and serve the page until it is interrupted."""
    from ..play.fields import methods
    from ..play.page import STYLE, build_page
    from ..play.request import Checkpoint
    from ..play.session import Studio

    model, call = Model.of(args), Call.of(args)
    more = SHIPPED.get(model.name, {}) | call.more
    pipe = model.load()
    known = inspect.signature(pipe.__call__).parameters
    classes = "prompt" not in known
    check_call(pipe, [0 if classes else ""], more)
    default = known["guidance_scale"].default if "guidance_scale" in known else None
    weight = None if default is None else call.weight or (WEIGHT if model.name in SHIPPED else float(default))
    offered = methods(dict(reversed(chosen)))
    checkpoint = Checkpoint(model.name, model.dtype, model.device, more)
    studio = Studio(pipe, checkpoint, offered, explain, weight, classes)
    page = build_page(studio, [name for name, _ in chosen], call.steps, _examples(model.name, classes), args.users)
    _, url, _ = page.launch(
        server_name=args.host,
        server_port=args.port,
        share=False,
        quiet=True,
        prevent_thread_lock=True,
        ssr_mode=False,
        css=STYLE,
        footer_links=[],
    )
    print(f"the playground is at {url} (Ctrl-C ends it)", flush=True)
    page.block_thread()


def port(text: str) -> int:
    """A number of a port."""
    if (number := at_least(1)(text)) > 65535:
        raise ValueError(f"a port is a number up to 65535, got {text}")
    return number


def check_address(host: str, number: int | None) -> None:
    """Raises ValueError where nothing can listen; without a port, any will do."""
    try:
        socket.create_server((host, number or 0)).close()
    except OSError as error:
        where = f"--host {host}" + (f" --port {number}" if number else "")
        raise ValueError(f"{where} cannot be listened on: {error.strerror or error}") from error


def explain(error: BaseException) -> str | None:
    """The sentence for bad settings; None for a fault of this package."""
    return sentence(error) if is_bad_input(error) or isinstance(error, RuntimeError) else None


def _examples(name: str, classes: bool) -> list[str]:
    from ..worlds.emoji import PROMPTS
    from ..worlds.shapes_measure import caption

    if classes:
        return ["0"]
    return {"assets/emoji": [*PROMPTS[::6]], "assets/shapes": [caption(seed) for seed in range(4)]}.get(name, [])
