"""The networks of the emoji checkpoint, and its tokenizer."""

from collections.abc import Iterable

from tokenizers import AddedToken
from transformers import CLIPTokenizer

from .emoji import SIZE
from .latent_model import Parts


PARTS = Parts(size=SIZE, text_tokens=12, text_width=96, text_layers=2, text_heads=3)  # the longest caption has 10 words


def build_tokenizer(words: Iterable[str]) -> CLIPTokenizer:
    """A CLIP tokenizer that knows each of `words` as one token and spells every other word in letters."""
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    vocab = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(
        vocab={token: i for i, token in enumerate(vocab)}, merges=[], model_max_length=PARTS.text_tokens
    )
    # Added tokens rather than merges: merges of 1,800 words would split one another's words.
    tokenizer.add_tokens([AddedToken(word, single_word=True, normalized=True) for word in sorted(set(words))])
    return tokenizer
