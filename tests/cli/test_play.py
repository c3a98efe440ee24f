"""`play` refuses in one sentence what it cannot open; the page itself is tested in tests/play."""

import pytest

from diffusion_guidance.cli import play
from diffusion_guidance.cli.command import main


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--compare", "cfg", "--compare", "raag", "--compare", "apg"], "the page has two methods"),
        (["--compare", "nothing"], "unknown guidance 'nothing'"),
        (["--compare", "trace"], "trace cannot be set in a page"),
        (["--steps", "0"], "must be at least 1"),
        (["no/such/checkpoint"], "cannot load a pipeline"),
        (["assets/shapes", "--call", "height_of=3"], "takes no argument height_of"),
        (["assets/shapes", "--port", "1000000"], "port"),
    ],
)
def test_it_refuses_in_one_sentence(arguments, sentence, capsys):
    assert main(["play", *arguments]) == 2
    err = capsys.readouterr().err
    assert sentence in err and len(err.splitlines()) == 1


def test_only_this_machine_can_open_it_unless_asked():
    assert play.parser("play").parse_args([]).host == "127.0.0.1"


def test_methods_to_begin_with_are_those_given():
    opened = []
    parse = play.parser("play").parse_args
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(play, "_serve", lambda args, chosen: opened.append(chosen))
        play.run(parse([]))
        play.run(parse(["--compare", "apg:eta=0.5"]))
    assert opened[0] == [("cfg", {"weight": 5}), ("raag", {"w_max": 9.54, "alpha": 4.26})]
    assert opened[1][0] == ("apg", {"eta": 0.5}) and opened[1][1] == opened[0][1]
