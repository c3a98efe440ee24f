import json
from collections import Counter

import pytest
import torch

from diffusion_guidance.worlds.emoji import PROMPTS, STYLES, EmojiImages, held_out, read_icons, without_tones
from diffusion_guidance.worlds.emoji_model import PARTS, build_tokenizer


def packages(folder, names: dict[str, list[str]]):
    """Four icon packages in `folder`, with the icons of `names`."""
    for style, package in STYLES.items():
        (folder / package).mkdir()
        icons = {name: {"body": f"<g id='{name}'/>"} for name in names.get(style, [])}
        icons |= {"wide": {"body": "<g/>", "width": 20, "left": 2}} if style == "noto" else {}
        (folder / package / "icons.json").write_text(json.dumps({"icons": icons, "width": 32, "height": 32}))
        groups = {"Animals & Nature": ["cat"]} if style == "twemoji" else {}
        (folder / package / "metadata.json").write_text(json.dumps({"categories": groups}))


def test_captions_are_style_and_name_without_skin_tones_and_names_of_fluent_alone(tmp_path):
    tones = [f"hand-{tone}" for tone in ("light", "medium-light", "medium", "medium-dark", "dark")]
    packages(
        tmp_path,
        {
            "3d": ["cat", "piata", "hand", *tones],
            "flat": ["cat", "piata", "police-car", "police-car-light"],
            "noto": ["cat", "hand", "hand-light-skin-tone", "police-car-light", "elf-tone1"],
            "twemoji": ["red-heart"],
        },
    )
    icons = {icon.caption: icon for icon in read_icons(tmp_path)}
    assert list(icons) == [
        *("3d cat", "3d hand", "flat cat", "flat police car light"),
        *("noto cat", "noto hand", "noto police car light", "noto wide", "twemoji red heart"),
    ]
    assert icons["3d cat"].group == "Animals & Nature" and icons["3d hand"].group == ""
    assert 'viewBox="2 0 20 32"' in icons["noto wide"].svg and "<g id='cat'/>" in icons["flat cat"].svg


def test_a_missing_package_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="fluent-emoji"):
        read_icons(tmp_path)


def test_a_tone_is_a_tone_only_beside_all_five():
    assert sorted(without_tones(["square-medium", "square-dark", "car", "car-light"])) == sorted(
        ["square-medium", "square-dark", "car", "car-light"]
    )


CAPTIONS = [f"{style} thing {i}" for style in STYLES for i in range(400)] + ["noto alone", *PROMPTS]


def test_held_out_pairs_are_known_in_other_styles_and_do_not_depend_on_order():
    pairs = held_out(CAPTIONS)
    assert len(pairs) == 300 and pairs <= set(CAPTIONS) and pairs == held_out(reversed(CAPTIONS))
    names = Counter(pair.split(" ", 1)[1] for pair in pairs)
    assert max(names.values()) == 1 and "alone" not in names
    assert not pairs & set(PROMPTS)
    assert min(Counter(pair.split()[0] for pair in pairs).values()) > 50  # no style is spared
    assert pairs != held_out(CAPTIONS, seed=1)


def test_the_split_is_disjoint_and_complete(tmp_path):
    images = torch.arange(len(CAPTIONS), dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 2, 2).contiguous()
    EmojiImages(images, CAPTIONS, ["Symbols"] * len(CAPTIONS)).save(tmp_path / "images.safetensors")
    every = EmojiImages.load(tmp_path / "images.safetensors")
    known, unseen = every.split()
    assert len(known) + len(unseen) == len(CAPTIONS) and set(unseen.captions) == held_out(CAPTIONS)
    for part in (known, unseen):  # images stay with their captions
        assert part.images[:, 0, 0, 0].tolist() == [CAPTIONS.index(caption) % 256 for caption in part.captions]


def test_the_first_names_are_those_of_the_prompts_then_short_names_of_things():
    every = EmojiImages(torch.zeros(1), [*CAPTIONS, "noto bear"], ["Symbols"] * len(CAPTIONS) + ["Animals & Nature"])
    every = EmojiImages(torch.zeros(len(every), 1), every.captions, every.groups)
    shown = {prompt.split(" ", 1)[1] for prompt in PROMPTS}
    assert {caption.split(" ", 1)[1] for caption in every.first(48).captions} == shown
    assert {caption.split(" ", 1)[1] for caption in every.first(49).captions} == shown | {"bear"}
    assert len(every.first(10_000)) == len(every)


def test_nothing_rendered_says_how_to_render(tmp_path):
    with pytest.raises(FileNotFoundError, match="emoji_images"):
        EmojiImages.load(tmp_path / "images.safetensors")


def test_the_prompts_are_forty_eight_names_twelve_in_each_style():
    assert len(PROMPTS) == len({prompt.split(" ", 1)[1] for prompt in PROMPTS}) == 48
    assert Counter(prompt.split()[0] for prompt in PROMPTS) == dict.fromkeys(STYLES, 12)


def test_every_word_is_one_token_and_others_are_spelled():
    words = {"3d", "pine", "apple", "pineapple", "ant", "s", "t", "rex", *(w for p in PROMPTS for w in p.split())}
    tokenizer = build_tokenizer(words)

    def tokens(text: str) -> list[str]:
        return [tokenizer.decode([token]).strip() for token in tokenizer(text).input_ids[1:-1]]

    assert tokens("3d pineapple ant s t rex") == ["3d", "pineapple", "ant", "s", "t", "rex"]
    assert tokens("NOTO Panda") == ["noto", "panda"]
    assert tokens("antapple") == list("antapple")
    assert len(tokenizer("noto pizza", padding="max_length").input_ids) == PARTS.text_tokens
