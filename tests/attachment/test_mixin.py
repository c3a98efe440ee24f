import json

import pytest
import torch
from diffusers import StableDiffusion3Pipeline

from diffusion_guidance import CFG, RAAG, GuidanceMixin, attach

from ..tiny import draw_sd3, tiny_sd3


class Guided(GuidanceMixin, StableDiffusion3Pipeline):
    pass


class Derived(Guided):
    def __call__(self, *args, guidance=None, **kwargs):
        return super().__call__(*args, guidance=guidance or CFG(2.0), **kwargs)


class Renamed(Guided):
    def __call__(self, text, **kwargs):
        return super().__call__(prompt=text, **kwargs)


ABSENT = {"text_encoder_3": None, "tokenizer_3": None}


@pytest.fixture(scope="module")
def stock():
    return tiny_sd3()


@pytest.fixture
def pipe(stock):
    return quiet(Guided.from_pipe(stock))


def quiet(pipe):
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_any_pipeline_class_can_have_it(stock, pipe):
    with attach(stock, RAAG()):
        expected = draw_sd3(stock)
    assert torch.equal(draw_sd3(pipe, guidance=RAAG()), expected)


def test_derived_class_can_change_the_call(stock, pipe):
    derived = quiet(Derived.from_pipe(stock))
    assert torch.equal(draw_sd3(derived), draw_sd3(pipe, weight=2.0))
    assert torch.equal(draw_sd3(derived, guidance=RAAG()), draw_sd3(pipe, guidance=RAAG()))


def test_derived_class_need_not_know_of_guidance(stock, pipe):
    renamed = quiet(Renamed.from_pipe(stock, guidance=RAAG()))
    assert torch.equal(draw_sd3(renamed), draw_sd3(pipe, guidance=RAAG()))
    assert torch.equal(draw_sd3(renamed, guidance=CFG(2.0)), draw_sd3(pipe, weight=2.0))


def test_guidance_is_checked_when_set(stock, pipe):
    for wrong in (3, [RAAG(), "raag"], RAAG):
        with pytest.raises(TypeError):
            pipe.guidance = wrong
        with pytest.raises(TypeError):
            Guided.from_pipe(stock, guidance=wrong)
    assert pipe.guidance is None


def test_from_pipe_takes_guidance_over(stock):
    first = Guided.from_pipe(stock, guidance=[RAAG(), CFG(3.0)])
    assert Guided.from_pipe(first).guidance == first.guidance
    assert Guided.from_pipe(first, guidance=[]).guidance == []


def test_from_pipe_keeps_what_it_has_no_use_for(stock):
    stock.register_to_config(_secret=3, _name_or_path="somewhere")
    pipe = Guided.from_pipe(stock)
    assert pipe.config._secret == 3
    assert pipe.config._name_or_path == "somewhere"


def test_errors_of_from_pipe(stock):
    with pytest.raises(ValueError, match="takes no colour"):
        Guided.from_pipe(stock, colour="red")

    class Other(GuidanceMixin, StableDiffusion3Pipeline):
        def __init__(self, transformer, controller):
            pass

    with pytest.raises(ValueError, match="needs controller"):
        Other.from_pipe(stock)


def test_file_and_argument(pipe, tmp_path):
    pipe.guidance = RAAG(5.0, 2.0)
    pipe.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "guidance.json").read_text())[0]["callback"] == "RAAG"
    assert Guided.from_pretrained(tmp_path, **ABSENT).guidance[0].w_max == 5.0
    assert Guided.from_pretrained(tmp_path, guidance=CFG(1.5), **ABSENT).guidance[0].weight == 1.5
    # Stock code loads the folder too.
    StableDiffusion3Pipeline.from_pretrained(tmp_path, **ABSENT)

    pipe.guidance = None
    pipe.save_pretrained(tmp_path)
    assert not (tmp_path / "guidance.json").exists()
    assert Guided.from_pretrained(tmp_path, **ABSENT).guidance is None


def test_damaged_file_is_an_error(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    (tmp_path / "guidance.json").write_text("[")
    with pytest.raises(ValueError, match=r"guidance\.json"):
        Guided.from_pretrained(tmp_path, **ABSENT)


def test_what_cannot_be_saved_is_an_error_before_anything_is_written(pipe, tmp_path):
    pipe.guidance = [lambda step, proceed: proceed(step)]
    with pytest.raises(ValueError, match="cannot be saved"):
        pipe.save_pretrained(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_file_of_the_checkpoint_that_names_a_network_needs_trust(pipe, tmp_path):
    pipe.guidance = None
    pipe.save_pretrained(tmp_path)
    hostile = {"callback": "ClassifierGuidance", "classifier": "timm:nothing:missing.safetensors"}
    (tmp_path / "guidance.json").write_text(json.dumps([hostile]))
    with pytest.raises(ValueError, match=r"ClassifierGuidance has classifier=.*trust_guidance=True"):
        Guided.from_pretrained(tmp_path, **ABSENT)
    with pytest.raises(ValueError, match="cannot load timm:nothing"):  # it was tried
        Guided.from_pretrained(tmp_path, trust_guidance=True, **ABSENT)
    assert Guided.from_pretrained(tmp_path, guidance=[], **ABSENT).guidance == []  # the file is not looked at


def test_parts_of_other_libraries_are_not_imported(pipe, tmp_path, monkeypatch):
    pipe.save_pretrained(tmp_path / "model")
    index = json.loads((tmp_path / "model" / "model_index.json").read_text())
    (tmp_path / "model" / "model_index.json").write_text(json.dumps(index | {"vae": ["hostile_part", "Network"]}))
    (tmp_path / "hostile_part.py").write_text("import pathlib; pathlib.Path(__file__).with_name('ran').touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="takes 'vae' from 'hostile_part'"):
        Guided.from_pretrained(tmp_path / "model", **ABSENT)
    assert not (tmp_path / "ran").exists()
