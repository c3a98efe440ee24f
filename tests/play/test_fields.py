"""Settings of a page come from the callbacks' signatures, and come back as the callbacks that they say."""

import inspect
import json

import pytest

from diffusion_guidance import APG, CFG, RAAG, DiffIER, to_config
from diffusion_guidance.core.kinds import known_kinds
from diffusion_guidance.play.fields import OWN, build, changed, methods, parse_plain, read_start


METHODS = methods()


def test_every_method_that_needs_plain_settings_only_is_offered():
    needing = {"classifierguidance", "calibrationtrace", "dynamiccfg", "guidercallback"}
    ours = {name for name, kind in known_kinds().items() if kind.__module__.startswith("diffusion_guidance.")}
    assert set(METHODS) == ours - needing - {"trace"} | {OWN}


@pytest.mark.parametrize("method", METHODS)
def test_what_a_page_opens_with_is_the_default(method):
    fields = METHODS[method]
    made = build(fields, method, [field.value for field in fields])
    assert to_config(made) == ([] if method == OWN else to_config(known_kinds()[method]()))
    if made:
        listed = set(inspect.signature(type(made[0]).__init__).parameters) - {
            "self",
            "negative_prompt_embeds",
            "network",
        }
        assert {field.name for field in fields} == listed


def test_a_slider_holds_what_it_begins_with():
    sliders = [field for fields in METHODS.values() for field in fields if field.kind == "slider"]
    assert len(sliders) > 30 and all(field.low <= field.value <= field.high for field in sliders)


def test_kinds_of_fields():
    kinds = {field.name: field.kind for field in METHODS["diffier"]}
    assert kinds == {
        "iterations": "whole",
        "step_size": "slider",
        "objective": "word",
        "tolerance": "numbers",
        "reuse": "switch",
        "seed": "whole",
        "start": "slider",
        "stop": "slider",
    }
    assert next(field.kind for field in METHODS["nag"]) == "text"


def test_settings_are_built_as_given():
    (cfg,) = build(METHODS["cfg"], "cfg", ["[7, 5, 3]", 0.5, "", 0, 1])
    assert to_config(cfg) == to_config(CFG([7, 5, 3], rescale=0.5))
    raag, diffier = build(METHODS["raag"], "raag", [5, 2, 0, 0.5], "diffier:iterations=2")
    assert to_config([raag, diffier]) == to_config([RAAG(5.0, 2.0, stop=0.5), DiffIER(2)])
    (nag,) = build(METHODS["nag"], "nag", ["blurry, dark", 5, 2.5, 0.25, 0, 1])
    assert nag.negative_prompt == "blurry, dark"


def test_settings_to_begin_with_make_a_slider_of_a_weight():
    name, begin = read_start("cfg:weight=5")
    weight = methods({name: begin})["cfg"][0]
    assert (weight.name, weight.kind, weight.value) == ("weight", "slider", 5.0)
    assert read_start("none") == (OWN, {})
    assert methods({"cfg": {"weight": [7, 5]}})["cfg"][0].value == "[7, 5]"


@pytest.mark.parametrize(
    ("method", "values", "then", "sentence"),
    [
        ("raag", [5, -2, 0, 1], "", "alpha >= 0"),
        ("raag", [5, 2, 0.8, 0.2], "", "0 <= start <= stop <= 1"),
        ("raag", [None, 2, 0, 1], "", "w_max must be a number, got None"),
        ("cfg", ["high", 0, "", 0, 1], "", "weight takes a number"),
        ("cfg", [float("nan"), 0, "", 0, 1], "", "NaN|finite|number"),
        ("diffier", [1.5, 0.5, "pair", "", False, 0, 0, 1], "", "iterations must be a whole number, got 1.5"),
        (OWN, [], "raagg", "unknown guidance 'raagg'"),
        (OWN, [], "raag:w=3", "no argument w"),
        (OWN, [], "classifierguidance:classifier=clip:/etc/passwd", "can name files"),
        (OWN, [], "os:system:command=1", "unknown guidance|cannot read|can name files"),
    ],
)
def test_what_cannot_be_used_is_a_sentence(method, values, then, sentence):
    with pytest.raises(ValueError, match=sentence):
        build(METHODS[method], method, values, then)


@pytest.mark.parametrize("text", ["trace", "classifierguidance:classifier=x", "raag:w_max=1,w=2", "", "nothing"])
def test_what_a_page_cannot_begin_with_is_a_sentence(text):
    with pytest.raises(ValueError, match=r"\w"):
        read_start(text)


def test_only_what_is_not_the_default_is_written():
    assert changed(APG(weight=3.0)) == {"weight": 3.0} and changed(RAAG()) == {}
    assert parse_plain("") == [] and json.dumps(to_config(parse_plain("raag"))) == json.dumps(to_config(RAAG()))
