import json

import pytest

from diffusion_guidance import (
    CFG,
    RAAG,
    GuidanceInterval,
    Trace,
    from_config,
    load_guidance,
    parse_guidance,
    save_guidance,
    to_config,
)
from diffusion_guidance.core.configuration import load_accompanying


CALLBACKS = [
    RAAG(w_max=10, alpha=8, stop=0.5),
    CFG(weight=[7.0, 5.0, 3.0], rescale=0.7),
    GuidanceInterval(high=None),
    Trace(levels=False),
]


def test_what_was_saved_comes_back(tmp_path):
    path = save_guidance(tmp_path / "sub" / "guidance.json", CALLBACKS)
    loaded = load_guidance(path)
    assert [repr(callback) for callback in loaded] == [repr(callback) for callback in CALLBACKS]
    assert to_config(loaded) == to_config(CALLBACKS) == json.loads(path.read_text())


def test_one_callback_is_a_list_of_one():
    assert to_config(RAAG()) == [{"callback": "RAAG", "w_max": 18.0, "alpha": 12.0, "start": 0.0, "stop": 1.0}]


def test_what_is_not_json_is_refused_by_name():
    with pytest.raises(ValueError, match=r"CFG\(weight=.*cannot be saved.*Give numbers"):
        to_config(CFG(weight=lambda step: 1.0))
    with pytest.raises(ValueError, match="plain function"):
        to_config([lambda step, proceed: proceed(step)])


@pytest.mark.parametrize(
    "text, expected",
    [
        ("raag", RAAG()),
        ("RAAG:w_max=18,alpha=12", RAAG(w_max=18, alpha=12)),
        ("cfg:weight=[7,5,3],rescale=0.5", CFG(weight=[7, 5, 3], rescale=0.5)),
        ("guidanceinterval:low=0.1,high=null", GuidanceInterval(low=0.1, high=None)),
        ("trace:levels=false", Trace(levels=False)),
    ],
)
def test_the_short_form(text, expected):
    assert repr(parse_guidance(text)) == repr(expected)


@pytest.mark.parametrize(
    "text, message",
    [
        ("magic", "unknown guidance 'magic'; known are .*cfg.*raag"),
        ("raag:weight=3", "raag has no argument weight; it takes w_max, alpha, start, stop"),
        ("raag:w_max", "cannot read 'w_max'"),
        ("raag:alpha=-1", "alpha >= 0"),
        ("cfg:weight=strong", "weight must be"),
        ("raag:w_max=big", "raag: "),
    ],
)
def test_bad_short_forms_say_what_to_write(text, message):
    with pytest.raises(ValueError, match=message):
        parse_guidance(text)


@pytest.mark.parametrize("config", [{"callback": "RAAG"}, [{"w_max": 3}], ["raag"]])
def test_a_bad_configuration_is_refused(config):
    with pytest.raises(ValueError, match=r"a guidance configuration is a list|each callback is written"):
        from_config(config)


@pytest.mark.parametrize("content", ["{", "\xff\xfe", None])
def test_an_unreadable_file_is_named(tmp_path, content):
    path = tmp_path / "guidance.json"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=r"cannot read guidance from .*guidance\.json"):
        load_guidance(path)


def test_a_long_short_form_is_read_in_one_pass():
    """100,000 brackets took 77 s when each was looked for its end."""
    with pytest.raises(ValueError, match="weight"):
        parse_guidance("cfg:weight=" + "[" * 99_000)
    with pytest.raises(ValueError, match="characters"):
        parse_guidance("cfg:weight=" + "[" * 10**6)
    assert parse_guidance("cfg:weight=[" + ",".join(["1.5"] * 20_000) + "]").weight == [1.5] * 20_000


def test_brackets_that_close_too_often_separate_nothing():
    with pytest.raises(ValueError, match="raag has no argument"):
        parse_guidance("raag:a=],b=1")


@pytest.mark.parametrize(
    "text", ["[" * 10**5, "[" * 200 + "]" * 200, '[{"callback": "CFG", "weight": NaN}]', " " * 2**21]
)
def test_a_deep_or_long_file_is_one_sentence(tmp_path, text):
    (tmp_path / "guidance.json").write_text(text)
    with pytest.raises(ValueError, match=r"cannot read guidance from .*: (nested|NaN|larger)"):
        load_guidance(tmp_path / "guidance.json")


def test_a_file_that_nobody_named(tmp_path):
    plain = save_guidance(tmp_path / "plain.json", CALLBACKS)
    assert [repr(callback) for callback in load_accompanying(plain)] == [repr(callback) for callback in CALLBACKS]
    named = tmp_path / "named.json"
    named.write_text(json.dumps([{"callback": "ClassifierGuidance", "classifier": "timm:nothing:missing.safetensors"}]))
    with pytest.raises(ValueError, match=r"ClassifierGuidance has classifier=.*trust_guidance=True"):
        load_accompanying(named)
    for load in (load_guidance, lambda path: load_accompanying(path, trust_guidance=True)):
        with pytest.raises(ValueError, match="cannot load timm:nothing"):
            load(named)
