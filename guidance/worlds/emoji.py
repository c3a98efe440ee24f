"""The emoji world: captioned images of 64 pixels in four styles, read from icon packages and rendered once to a cache.

The packages are npm's `@iconify-json/fluent-emoji`, `fluent-emoji-flat`, `noto` and `twemoji`. A caption is a style and
a name: "noto avocado", "3d red heart". Names with a skin tone are left out, and so are names that only Fluent has.
"""

import json
import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ..core.files import write_atomic


SIZE = 64  # pixels per side
STYLES = {"3d": "fluent-emoji", "flat": "fluent-emoji-flat", "noto": "noto", "twemoji": "twemoji"}
_FLUENT = ("3d", "flat")
_TONES = ("light", "medium-light", "medium", "medium-dark", "dark")
_TONE = re.compile(rf"(.+)-({'|'.join(_TONES)})$")

#: Drawn as a sheet to look at; chosen before training: twelve animals, foods, faces and objects, the styles in turn.
PROMPTS = (
    *("3d cat face", "flat dog face", "noto panda", "twemoji frog", "3d tiger face", "flat pig face"),
    *("noto octopus", "twemoji whale", "3d butterfly", "flat owl", "noto turtle", "twemoji cactus"),
    *("3d pizza", "flat avocado", "noto strawberry", "twemoji watermelon", "3d banana", "flat carrot"),
    *("noto broccoli", "twemoji hamburger", "3d doughnut", "flat red apple", "noto cookie", "twemoji lemon"),
    *("3d crying face", "flat smiling face", "noto angry face", "twemoji sleeping face", "3d nerd face"),
    *("flat winking face", "noto clown face", "twemoji cold face", "3d red heart", "flat robot", "noto skull"),
    *("twemoji ghost", "3d rocket", "flat automobile", "noto guitar", "twemoji key", "3d umbrella", "flat hammer"),
    *("noto star", "twemoji house", "3d airplane", "flat camera", "noto basketball", "twemoji rainbow"),
)


@dataclass(frozen=True)
class Icon:
    """One drawing: `name` in words, `style` of STYLES, `group` as its package files it ("" where it does not)."""

    name: str
    style: str
    group: str
    svg: str

    @property
    def caption(self) -> str:
        return f"{self.style} {self.name}"


def read_icons(folder: Path) -> list[Icon]:
    """All icons of the world, sorted by caption, from `folder` with the four packages in it (or in node_modules/).

    Raises:
        FileNotFoundError: a package is not there.
    """
    packages = {style: _package(Path(folder), name) for style, name in STYLES.items()}
    icons = {style: json.loads((package / "icons.json").read_text("utf-8")) for style, package in packages.items()}
    groups: dict[str, str] = {}
    for package in packages.values():
        categories = json.loads((package / "metadata.json").read_text("utf-8")).get("categories", {})
        groups = {name: group for group, names in categories.items() for name in names} | groups
    known = {style: set(without_tones(parts["icons"])) for style, parts in icons.items()}
    shared = set().union(*(names for style, names in known.items() if style not in _FLUENT))
    found = [
        Icon(name.replace("-", " "), style, groups.get(name, ""), _svg(parts, parts["icons"][name]))
        for style, parts in icons.items()
        for name in known[style] & shared
    ]
    return sorted(found, key=lambda icon: icon.caption)


def without_tones(names: Iterable[str]) -> list[str]:
    """`names` (words joined by hyphens) except those of a skin tone. "police-car-light" stays: it has no "-dark"."""
    every = set(names)

    def toned(name: str) -> bool:
        if "skin-tone" in name or re.search(r"-tone\d$", name):
            return True
        match = _TONE.match(name)
        return match is not None and all(f"{match[1]}-{tone}" in every for tone in _TONES)

    return [name for name in every if not toned(name)]


def held_out(captions: Iterable[str], count: int = 300, seed: int = 0) -> set[str]:
    """The captions never trained on: `count` names, each in one style, whose other styles are known. No PROMPTS."""
    styles: dict[str, list[str]] = {}
    for caption in sorted(set(captions)):
        style, name = caption.split(" ", 1)
        styles.setdefault(name, []).append(style)
    shown = {prompt.split(" ", 1)[1] for prompt in PROMPTS}
    names = [name for name, found in styles.items() if len(found) > 1 and name not in shown]
    order = random.Random(seed)
    return {f"{order.choice(styles[name])} {name}" for name in order.sample(names, min(count, len(names)))}


def is_core(name: str, group: str) -> bool:
    """Whether a name belongs to the part learned first: short names of animals, food, faces and things."""
    longest = {"Animals & Nature": 2, "Food & Drink": 2, "Smileys & Emotion": 2}
    longest |= {"Objects": 1, "Travel & Places": 1, "Activities": 1}
    return len(name.split()) <= longest.get(group, 0)


@dataclass(frozen=True)
class EmojiImages:
    """Rendered icons: `images` (N, 3, 64, 64) uint8 on white, with `captions` and `groups` of the same length."""

    images: torch.Tensor
    captions: list[str]
    groups: list[str]

    @staticmethod
    def render(icons: list[Icon], render: Callable[[str], torch.Tensor]) -> "EmojiImages":
        """`icons` through `render`, which turns one SVG into (3, 64, 64) uint8."""
        images = torch.stack([render(icon.svg) for icon in icons])
        return EmojiImages(images, [icon.caption for icon in icons], [icon.group for icon in icons])

    def save(self, path: Path) -> None:
        lists = {"captions": json.dumps(self.captions), "groups": json.dumps(self.groups)}
        write_atomic(path, lambda temporary: save_file({"images": self.images}, temporary, metadata=lists))

    @staticmethod
    def load(path: Path) -> "EmojiImages":
        """
        Raises:
            FileNotFoundError: nothing was rendered to `path`.
        """
        if not Path(path).exists():
            raise FileNotFoundError(f"{path} is not there; `python -m scripts.training.emoji_images FOLDER` renders it")
        with safe_open(path, framework="pt") as file:
            lists = file.metadata()
            return EmojiImages(file.get_tensor("images"), *(json.loads(lists[key]) for key in ("captions", "groups")))

    def where(self, keep: Callable[[str, str], bool]) -> "EmojiImages":
        """Those whose (caption, group) `keep` accepts."""
        index = [i for i, pair in enumerate(zip(self.captions, self.groups, strict=True)) if keep(*pair)]
        return EmojiImages(self.images[index], [self.captions[i] for i in index], [self.groups[i] for i in index])

    def split(self) -> tuple["EmojiImages", "EmojiImages"]:
        """Those to train on, and those held out."""
        left_out = held_out(self.captions)
        return self.where(lambda caption, _: caption not in left_out), self.where(lambda c, _: c in left_out)

    def first(self, names: int, seed: int = 0) -> "EmojiImages":
        """Those of the first `names` names: of PROMPTS, then others learned first (`is_core`), then the rest."""
        groups = {caption.split(" ", 1)[1]: group for caption, group in zip(self.captions, self.groups, strict=True)}
        order = sorted(groups)
        random.Random(seed).shuffle(order)
        shown = {prompt.split(" ", 1)[1] for prompt in PROMPTS}
        order.sort(key=lambda name: (name not in shown, not is_core(name, groups[name])))
        kept = set(order[:names])
        return self.where(lambda caption, _: caption.split(" ", 1)[1] in kept)

    def words(self) -> list[str]:
        """Every word of the captions, sorted."""
        return sorted({word for caption in self.captions for word in caption.split()})

    def __len__(self) -> int:
        return len(self.captions)


def _package(folder: Path, name: str) -> Path:
    places = [folder / name, folder / "@iconify-json" / name, folder / "node_modules" / "@iconify-json" / name]
    for place in places:
        if (place / "icons.json").is_file():
            return place
    raise FileNotFoundError(f"{folder} does not hold @iconify-json/{name}; `npm install` it there")


def _svg(package: dict, icon: dict) -> str:
    def value(key: str, default: float) -> float:
        return icon.get(key, package.get(key, default))

    box = f"{value('left', 0)} {value('top', 0)} {value('width', 16)} {value('height', 16)}"
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {spaces} viewBox="{box}">{icon["body"]}</svg>'
