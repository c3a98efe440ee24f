"""Rows of other settings have other columns, whatever the settings are called."""

from diffusion_guidance import CFG, RAAG, GuidanceInterval, parse_guidance
from diffusion_guidance.evaluation.columns import setting_columns


def test_only_what_is_not_at_its_default_somewhere_is_shown():
    chains = [[RAAG(w_max=5, alpha=3)], [RAAG(w_max=5, alpha=3, start=0.5)]]
    first, second = setting_columns(chains, [{}, {}])
    assert first == {"w_max": 5, "alpha": 3, "start": 0.0} and second == first | {"start": 0.5}


def test_the_swept_weight_stays_apart_from_that_of_a_callback():
    chains = [[CFG(weight=8.0), RAAG(w_max=4.0)], [CFG(weight=4.0), RAAG(w_max=4.0)], [CFG(weight=2)]]
    columns = setting_columns(chains, [{"weight": 4.0}, {"weight": 4.0}, {}])
    assert [(row.get("weight"), row.get("cfg.weight")) for row in columns] == [(None, 8.0), (None, None), (2, None)]


def test_a_setting_of_two_callbacks_is_shown_for_each():
    chain = [GuidanceInterval(low=0.2, high=3.0, stop=0.9), CFG(weight=3, stop=0.5), CFG(weight=4)]
    (row,) = setting_columns([chain], [{}])
    assert row["guidanceinterval.stop"] == 0.9 and row["cfg.stop"] == 0.5
    assert (row["cfg.weight"], row["cfg2.weight"]) == (3, 4)


def test_every_setting_of_every_known_callback_is_told_apart():
    """The rule, not a list: any two different configurations differ in a column."""
    texts = ["cfg:weight=2", "cfg:weight=2,rescale=0.5", "cfg:weight=2,stop=0.5", "cfg:weight=[2,1]", "cfg:weight=3"]
    texts += ["raag:w_max=2,alpha=4", "raag:w_max=2,alpha=5", "diffier:iterations=2", "diffier:iterations=3"]
    chains = [[parse_guidance(text)] for text in texts]
    columns = setting_columns(chains, [{}] * len(texts))
    rows = [repr({"method": text.split(":")[0]} | row) for text, row in zip(texts, columns, strict=True)]
    assert len(set(rows)) == len(texts)
