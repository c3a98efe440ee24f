import os

import pytest
from transformers import AutoConfig, AutoTokenizer, CLIPTokenizer, Qwen2Tokenizer

from diffusion_guidance import CFG
from diffusion_guidance.pipelines import GuidedDiTPipeline
from scripts.studies import upstream_tests

from ..tiny import draw_dit, tiny_dit


TESTS = """
import pytest
from diffusers import DiTPipeline, SanaPipeline


class TestOfAnother:
    pipeline_class = SanaPipeline

    def test_never_run(self):
        raise AssertionError


class TestDiT:
    pipeline_class = DiTPipeline

    def test_it_is_the_stock_class(self):
        assert self.pipeline_class.__module__.startswith("diffusers.")

    def test_its_name_means_the_same(self):
        assert self.pipeline_class is DiTPipeline

    @pytest.mark.skip
    def test_skipped(self):
        raise AssertionError
"""


@pytest.fixture
def checkout(tmp_path):
    file = tmp_path / "tests" / "pipelines" / "dit" / "test_dit.py"
    file.parent.mkdir(parents=True)
    file.write_text(TESTS)
    return tmp_path


def test_outcomes_are_counted_for_either_class(checkout, monkeypatch):
    monkeypatch.setitem(upstream_tests.CASES, "GuidedDiTPipeline", ["dit/test_dit.py"])
    stock = upstream_tests.run(checkout, "GuidedDiTPipeline", "stock class")
    assert (stock["pipeline"], stock["passed"], stock["failed"], stock["skipped"]) == ("DiTPipeline", 2, 0, 1)
    ours = upstream_tests.run(checkout, "GuidedDiTPipeline", "ours")
    assert (ours["passed"], ours["failed"], ours["skipped"]) == (1, 1, 1)
    assert ours["failures"] == ["TestDiT::test_it_is_the_stock_class"]


def test_a_folder_that_is_no_checkout_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="a checkout of diffusers"):
        upstream_tests.run(tmp_path, "GuidedDiTPipeline", "ours")


def test_guided_calls_are_guided(monkeypatch):
    steps = []
    monkeypatch.setattr(upstream_tests, "recombine", lambda step, proceed: steps.append(step) or proceed(step))
    pipe = GuidedDiTPipeline.from_pipe(tiny_dit())
    pipe.set_progress_bar_config(disable=True)
    monkeypatch.setattr(GuidedDiTPipeline, "__call__", upstream_tests.guided(GuidedDiTPipeline.__call__))
    draw_dit(pipe)
    assert len(steps) == 3 and steps[0].has_unconditional


def test_recombined_guidance_is_the_pipelines_own():
    pipe = GuidedDiTPipeline.from_pipe(tiny_dit())
    pipe.set_progress_bar_config(disable=True)
    expected = draw_dit(pipe, guidance=CFG(weight=4.0))
    assert (draw_dit(pipe, guidance=upstream_tests.recombine) - expected).abs().max() < 1e-5


def test_the_names_of_the_hub_are_folders(tmp_path, monkeypatch):
    upstream_tests.make_hub(tmp_path)
    monkeypatch.chdir(tmp_path)
    names = sorted(f"hf-internal-testing/{name}" for name in os.listdir("hf-internal-testing"))
    qwen, clip, t5 = names[0], names[1], names[2]
    assert (
        CLIPTokenizer.from_pretrained(clip)("a burger").input_ids != CLIPTokenizer.from_pretrained(clip)("x").input_ids
    )
    assert Qwen2Tokenizer.from_pretrained(qwen)("a burger").input_ids
    assert len(AutoTokenizer.from_pretrained(t5)) <= AutoConfig.from_pretrained(t5).vocab_size
