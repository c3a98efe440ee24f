"""Guidance shared through folders and the hub, without a network."""

from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import yaml

from diffusion_guidance import CFG, RAAG, GuidanceInterval, GuidanceList, attach, from_config, to_config
from diffusion_guidance.core.guidance_list import FILE

from ..tiny import tiny_sd3


CALLBACKS = [RAAG(7.0, 3.0), GuidanceInterval(0.2, 0.8)]


def test_a_folder_gives_back_what_was_saved(tmp_path):
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "config.json").write_text("of a checkpoint")
    GuidanceList(CALLBACKS).save_pretrained(tmp_path / "some")
    found = GuidanceList.from_pretrained(tmp_path / "some")
    assert type(found) is GuidanceList and repr(list(found)) == repr(CALLBACKS)
    assert {path.name for path in (tmp_path / "some").iterdir()} == {"config.json", FILE, "README.md"}
    assert (tmp_path / "some" / "config.json").read_text() == "of a checkpoint"
    with attach(tiny_sd3(), found) as attachment:
        assert attachment is not None


def test_the_card_has_front_matter_and_what_to_paste(tmp_path):
    GuidanceList(CFG(3.0)).save_pretrained(tmp_path / "mine")
    text = (tmp_path / "mine" / "README.md").read_text()
    front = yaml.safe_load(text.split("---")[1])
    assert front["library_name"] == "diffusion-guidance" and "diffusers" in front["tags"]
    assert 'GuidanceList.from_pretrained("mine")' in text and '"callback": "CFG"' in text
    (tmp_path / "mine" / "README.md").write_text("by hand")
    GuidanceList(CFG(4.0)).save_pretrained(tmp_path / "mine")
    assert (tmp_path / "mine" / "README.md").read_text() == "by hand"


class Hub:
    """What HfApi does of it, on a folder."""

    def __init__(self, root: Path) -> None:
        self.root, self.tokens = root, []

    def api(self, token=None):
        self.tokens.append(token)
        return self

    def create_repo(self, repo_id, private=None, exist_ok=False):
        assert exist_ok
        (self.root / repo_id).mkdir(parents=True, exist_ok=True)
        return SimpleNamespace(repo_id=repo_id)

    def file_exists(self, repo_id, name):
        return (self.root / repo_id / name).exists()

    def upload_folder(self, repo_id, folder_path, allow_patterns, commit_message):
        for name in allow_patterns:
            (self.root / repo_id / name).write_bytes((Path(folder_path) / name).read_bytes())
        return SimpleNamespace(commit_url=f"hub/{repo_id}/commit/1")

    def download(self, repo_id, name, **asked):
        if not self.file_exists(repo_id, name):
            raise huggingface_hub.errors.EntryNotFoundError(f"no {name}")
        return str(self.root / repo_id / name)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    hub = Hub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "HfApi", hub.api)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hub.download)
    return hub


def test_the_hub_gives_back_what_was_pushed(hub, tmp_path):
    assert GuidanceList(CALLBACKS).push_to_hub("me/raag", token="secret") == "hub/me/raag/commit/1"
    assert repr(GuidanceList.from_pretrained("me/raag")) == repr(GuidanceList(CALLBACKS))
    card = hub.root / "me/raag" / "README.md"
    assert 'from_pretrained("me/raag")' in card.read_text() and "secret" not in card.read_text()
    card.write_text("by hand")
    GuidanceList(CFG(2.0)).save_pretrained(tmp_path / "x", push_to_hub=True, repo_id="me/raag")
    assert card.read_text() == "by hand" and repr(GuidanceList.from_pretrained("me/raag")) == repr([CFG(2.0)])
    assert hub.tokens == ["secret", None]


def test_what_is_not_there_is_refused_in_a_sentence(hub, tmp_path):
    with pytest.raises(ValueError, match=r"nobody/none is neither a folder nor a repository with a guidance.json: no"):
        GuidanceList.from_pretrained("nobody/none")
    with pytest.raises(ValueError, match=r"has no guidance.json; give a folder"):
        GuidanceList.from_pretrained(tmp_path)


def test_somebody_elses_callbacks_load_nothing_without_trust(hub, tmp_path):
    (hub.root / "them").mkdir(parents=True)
    entry = '[{"callback": "ClassifierGuidance", "classifier": "torchvision:resnet18"}]'
    (hub.root / "them" / FILE).write_text(entry)
    with pytest.raises(ValueError, match="trust_guidance"):
        GuidanceList.from_pretrained("them")


def test_what_cannot_be_saved_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="plain function"):
        GuidanceList([lambda step, proceed: proceed(step)]).save_pretrained(tmp_path / "x")
    assert not (tmp_path / "x").exists()
    with pytest.raises(TypeError):
        GuidanceList([3])
    assert repr(from_config(to_config(GuidanceList(CALLBACKS)))) == repr(CALLBACKS)
