"""A12: a KeyboardInterrupt at any line of attaching and of detaching."""

import linecache
import sys

import pytest

from diffusion_guidance import RAAG, DiffIER, attach, detach
from diffusion_guidance.attachment.attached import attached_to
from diffusion_guidance.attachment.replacement import LOCK

from ..tiny import draw_dit, tiny_dit


HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs")


def left(pipe) -> set[str]:
    """What an attachment has left on `pipe`."""
    found = {name for name in HOOKS if getattr(pipe.transformer, name)}
    found |= {"forward"} & set(vars(pipe.transformer)) | {"step", "set_timesteps"} & set(vars(pipe.scheduler))
    found |= {"locked"} if LOCK._is_owned() else set()  # for ever, as other threads see it
    return found | {"attached" for _ in attached_to(pipe)}


def interrupted(function, line: int) -> bool:
    """Call `function`, interrupted before the package's line number `line`, in order of execution; False if it has
    fewer. Not between a block under a lock and the lock's release, where Python lets no signal in."""
    before = [0]

    def local(frame, event, _):
        if event == "line" and "with LOCK" not in linecache.getline(frame.f_code.co_filename, frame.f_lineno):
            before[0] += 1
            if before[0] == line + 1:
                raise KeyboardInterrupt
        return local

    sys.settrace(lambda frame, *_: local if "/guidance/" in frame.f_code.co_filename else None)
    try:
        function()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
        assert not LOCK._is_owned()
    return False


@pytest.fixture(scope="module")
def pipe():
    return tiny_dit()


def test_attaching_leaves_nothing(pipe):
    line = 0
    while interrupted(lambda: attach(pipe, [RAAG(), DiffIER(reuse=True)]), line):
        assert not left(pipe), line
        line += 1
    assert line > 100 and left(pipe)
    detach(pipe)
    assert not left(pipe)


def test_detaching_leaves_nothing_once_it_began(pipe):
    line, everything = 0, None
    while everything is None or line < 1000:
        attachment = attach(pipe, [RAAG(), DiffIER(reuse=True)])
        draw_dit(pipe, steps=2)
        everything = left(pipe)
        broke = interrupted(attachment.detach, line)
        assert left(pipe) == (everything if line == 0 else set()), line
        detach(pipe)  # which nobody needs, except before the first line
        assert not left(pipe), line
        if not broke:
            break
        line += 3  # all of them take 5 s
    assert 50 < line < 1000 and {"forward", "step", "attached"} <= everything
