"""Of any file that hypothesis makes, evaluation and detection see the same pixels, or give the same reason."""

import tempfile
import warnings
from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_guidance.detection.scoring import load
from diffusion_guidance.evaluation import ImageSet

from .odd import odd_files, whole_files
from .test_pixels import Keeping


WHOLE = {name: data for name, (data, _) in odd_files().items()} | whole_files()
CHANGES = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(name=st.sampled_from(sorted(WHOLE)), changes=CHANGES, kept=st.just(1.0) | st.floats(0.1, 1))
def test_both_read_the_same(name, changes, kept):
    data = bytearray(WHOLE[name])
    for place, byte in changes:
        data[int(place * len(data))] = byte
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, about damaged files
        path = Path(folder, name)
        path.write_bytes(data[: max(1, round(kept * len(data)))])
        row, prepared = load(Keeping(), str(path))
        try:
            found = ImageSet(Path(folder))
        except ValueError as error:
            assert prepared is None
            assert row["error"] in str(error)
            return
        pixels = found.read([0])
        if prepared is None:
            assert row["error"].startswith("blank")
            assert (pixels == pixels[:, :, :1, :1]).all()
        else:
            assert torch.equal(prepared[0], pixels)
