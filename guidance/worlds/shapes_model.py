"""The networks of the shapes checkpoint and its tokenizer, and the card of every checkpoint that ships."""

import json
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData
from transformers import CLIPTokenizer

from ..core.files import write_atomic
from .latent_model import Parts
from .shapes import SIZE, vocabulary


PARTS = Parts(size=SIZE, text_tokens=24, text_width=64, text_layers=3, text_heads=2)  # the longest caption has 19 words


def build_tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer that knows each word of the world as one token and spells every other word in letters."""
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    vocab = [*letters, *(letter + "</w>" for letter in letters)]
    merges = []
    # The longest word first: an early merge of a short one ("a" + "n" of "and") would split "triangle".
    for word in sorted(vocabulary(), key=len, reverse=True):
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            merges.append((parts[0], parts[1]))
            parts[:2] = [parts[0] + parts[1]]
            vocab.append(parts[0])
    vocab = list(dict.fromkeys([*vocab, "<|startoftext|>", "<|endoftext|>"]))
    return CLIPTokenizer(
        vocab={token: i for i, token in enumerate(vocab)},
        merges=list(dict.fromkeys(merges)),
        model_max_length=PARTS.text_tokens,
    )


def write_card(folder: Path, text: str, facts: dict, **data: Any) -> None:
    """The checkpoint's README.md: front matter with `data` (see `huggingface_hub.ModelCardData`), `text`, then `facts`
    as JSON."""
    front = ModelCardData(**({"license": "apache-2.0", "language": "en"} | data)).to_yaml()
    card = f"---\n{front}\n---\n\n{text}\n\n```json\n{json.dumps(facts, indent=1)}\n```\n"
    write_atomic(folder / "README.md", lambda temporary: temporary.write_text(card, encoding="utf-8"))
