"""Show what attaching to a pipeline finds in it: its family, its network, and which methods work there.

diffusion-guidance describe assets/shapes
diffusion-guidance describe stabilityai/stable-diffusion-3.5-large --device cpu
"""

from argparse import Namespace

from .options import Model
from .parser import Parser


def parser(prog: str) -> Parser:
    parse = Parser(prog=prog, description=__doc__)
    Model.add(parse)
    return parse


def run(args: Namespace) -> None:
    pipe = Model.of(args).load()
    from ..attachment.describe import describe

    print(describe(pipe))
