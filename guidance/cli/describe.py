"""Show what attaching to a pipeline finds in it: the `Family` that describes it, as Python source.

The pipeline is called once, guided, with few steps:

    diffusion-guidance describe assets/shapes --call max_sequence_length=1
    diffusion-guidance describe stabilityai/stable-diffusion-3.5-large --weight 5
"""

import inspect
from argparse import Namespace

from .check_call import check_call
from .failures import blaming
from .options import Asked, Call, Model
from .parser import Parser


def parser(prog: str) -> Parser:
    parse = Parser(prog=prog, description=__doc__)
    Model.add(parse)
    Asked.add(parse, required=False)
    Call.add(parse, steps=2)
    return parse


def run(args: Namespace) -> None:
    asked, given = Asked.of(args), Call.of(args)
    call = given.arguments()
    pipe = Model.of(args).load()
    from ..attachment.describe import describe

    takes_classes = "class_labels" in inspect.signature(pipe.__call__).parameters
    condition = asked.conditions[0] if asked.conditions else 0 if takes_classes else "a photo"
    check_call(pipe, [condition], call)
    name = "class_labels" if isinstance(condition, int) else "prompt"
    with blaming(given.more):
        print(describe(pipe, **{name: [condition]}, **call))
