"""A method is known by lying in the folder of methods: its name works without any list."""

import subprocess
import sys
from pathlib import Path

import diffusion_guidance
from diffusion_guidance import RAAG, GuiderCallback
from diffusion_guidance.core.kinds import find_kind, known_kinds


METHOD = '''
import torch
from diffusers.configuration_utils import register_to_config

from ..core.callback import Callback


class Halfway(Callback):
    """Half of the way from what follows to the conditional prediction."""

    @register_to_config
    def __init__(self, share: float = 0.5, start: float = 0.0, stop: float = 1.0):
        super().__init__(start, stop)
        self.share = share

    def guide(self, step, proceed):
        return torch.lerp(proceed(step), step.cond, self.share)
'''


def test_names_are_those_of_the_classes_in_any_case():
    assert find_kind("raag") is find_kind("RAAG") is RAAG
    assert find_kind("guiderCallback") is GuiderCallback
    assert find_kind("nonesuch") is None
    names = {"cfg", "raag", "diffier", "trace", "guidanceinterval", "classifierguidance", "calibrationtrace"}
    assert names <= known_kinds().keys()


def test_a_new_file_is_all_that_a_new_method_takes(tmp_path):
    """In a copy of the package: the name is known to the short form, to JSON, to --help and at the top level."""
    copy = tmp_path / "diffusion_guidance"
    subprocess.run(["cp", "-r", Path(diffusion_guidance.__file__).parent, copy], check=True)
    (copy / "methods" / "halfway.py").write_text(METHOD)
    code = (
        "import diffusion_guidance as d\n"
        f"assert d.__file__.startswith({str(tmp_path)!r}), d.__file__\n"
        "made = d.parse_guidance('halfway:share=0.25')\n"
        "assert d.to_config(made) == [{'callback': 'Halfway', 'share': 0.25, 'start': 0.0, 'stop': 1.0}]\n"
        "assert repr(d.from_config(d.to_config(made))) == repr([made])\n"
        "assert d.Halfway is type(made)\n"
        "from diffusion_guidance.cli.methods import described\n"
        "assert 'halfway (share)' in described()\n"
    )
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.meta_path[:] = "
            f"[f for f in sys.meta_path if 'Editable' not in getattr(f, '__name__', '')]\n{code}",
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
