"""Settings that stand together in Python are written flat in files and on command lines, as they were before."""

import inspect
import json

import pytest

from diffusion_guidance import ClassifierGuidance, Reading, Strength, from_config, parse_guidance, to_config
from diffusion_guidance.core.groups import grouped, parameters, ungrouped
from diffusion_guidance.core.kinds import known_kinds

from ..classifiers import tiny_spec


def test_every_field_of_a_group_has_a_name_of_its_own():
    for kind in known_kinds().values():
        known = inspect.signature(kind.__init__).parameters
        groups = [p.default for name, p in known.items() if hasattr(p.default, "__dataclass_fields__")]
        fields = [name for group in groups for name in group.__dataclass_fields__]
        assert len(parameters(kind)) == len(known) - 1 - len(groups) + len(set(fields))
        assert not set(fields) & set(known)


def test_flat_settings_of_earlier_versions_load_and_are_written_again_as_they_were(tmp_path):
    """The file holds every argument that the class had when all of them stood alone."""
    entry = {"callback": "ClassifierGuidance", "classifier": tiny_spec("torchvision", tmp_path), "schedule": "ddpm"}
    entry |= {"scale": 2.0, "gamma": None, "tau_joint": 0.5, "tau_marginal": None, "softplus": 0, "look_at": None}
    entry |= {"labels": [1, 0], "decoder": None, "data_std": None, "chunk": None, "start": 0.1, "stop": 0.9}
    (guide,) = from_config([json.loads(json.dumps(entry))])
    assert guide.strength == Strength("ddpm", scale=2.0) and guide.strength.constants() == (2.0, 0.3)
    assert guide.reading == ("estimate", 0, 0.5, 0.5) and (guide.start, guide.stop) == (0.1, 0.9)
    assert to_config(guide) == [entry]


def test_the_short_form_takes_the_fields_and_refuses_the_groups():
    assert grouped(ClassifierGuidance, {"classifier": "x", "softplus": 0}) == {
        "classifier": "x",
        "reading": Reading(softplus=0),
    }
    assert ungrouped({"labels": 1, "strength": Strength(scale=3.0)})["scale"] == 3.0
    with pytest.raises(ValueError, match="schedule must be one of ddpm, edm, x0, got 'ddim'"):
        parse_guidance("classifierguidance:classifier=a:b,schedule=ddim")
    with pytest.raises(ValueError, match=r"no argument strength; it takes classifier, schedule, scale"):
        parse_guidance("classifierguidance:classifier=a:b,strength=2")
