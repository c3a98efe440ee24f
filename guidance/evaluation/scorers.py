"""Scores of single images for what was asked: a function of the user's own, or a model of what people prefer."""

import hashlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from ..core.user_code import from_module
from ..networks.extractors import load_extractor
from ..networks.libraries import package
from ..networks.weights import weights_sha256, with_weights
from .columns import TAKEN
from .metrics.scores import clip_score
from .run import Measure
from .summary import NOT_SCORES


#: Images (B, 3, H, W) in [0, 1] and their B prompts or class ids -> (B,) scores, of which higher is better.
Score = Callable[[torch.Tensor, Sequence[str | int]], torch.Tensor]

HPS = "open_clip:ViT-H-14"
PICKSCORE = "yuvalkirstain/PickScore_v1"


@dataclass(frozen=True)
class Scorer:
    """A score of single images.

    Attributes:
        name: of its column.
        identity: JSON-serialisable: what its values depend on.
    """

    name: str
    score: Score
    identity: Mapping[str, str | None]

    def __call__(self, images: torch.Tensor, asked: Sequence[str | int]) -> torch.Tensor:
        """(B,) float32, or bool. Raises ValueError for a failure, a result of another shape, or one not finite."""
        try:
            with torch.inference_mode():
                found = torch.as_tensor(self.score(images, asked))
        except ValueError:
            raise
        except Exception as error:  # anything, in code of the user's or of another package
            reason = " ".join(str(error).split())[:300]
            raise ValueError(f"the score {self.name} failed ({type(error).__name__}: {reason})") from error
        if found.shape != (len(images),):
            raise ValueError(f"the score {self.name} gave {tuple(found.shape)} for {len(images)} images, not one each")
        if not torch.isfinite(found).all():
            raise ValueError(f"the score {self.name} gave a value that is not finite")
        return found if found.dtype == torch.bool else found.float()


def scored(measure: Measure, scorers: Sequence[Scorer], condition: Callable[[int], str | int]) -> Measure:
    """`measure`, and the scores of images for what was asked with their seeds.

    Raises:
        ValueError: when called, if something else that is measured has the name of a score.
    """

    def measured(images: torch.Tensor, seeds: Sequence[int]) -> dict[str, torch.Tensor]:
        arrays = measure(images, seeds)
        for scorer in scorers:
            if scorer.name in arrays:
                raise ValueError(f"two measurements are called {scorer.name}; give the function another name")
            arrays[scorer.name] = scorer(images, [condition(seed) for seed in seeds])
        return arrays

    return measured


def load_scorer(text: str, device: str | torch.device = "cpu") -> Scorer:
    """`package.module:function`, or `clip-score[:EXTRACTOR]`, `pickscore[:FOLDER]`, `hps:FILE`, `pyiqa:METRIC`.

    Raises:
        ValueError: another form, or a module, function, package or weights that are missing.
    """
    name, _, rest = text.partition(":")
    if name in _BUILT_IN:
        return _BUILT_IN[name](rest, device)
    if name == "image-reward":
        raise ValueError("ImageReward unpickles its weights, which is not done here; name a function of your own")
    if not re.fullmatch(r"[\w.]+:\w+", text):
        raise ValueError(f"a score is package.module:function, {', '.join(_BUILT_IN)}; got {text[:60]!r}")
    return _own(name, rest)


def _own(module: str, name: str) -> Scorer:
    found = from_module(module, name, "--score")
    if name in TAKEN - {"clip_score"} | NOT_SCORES or name.endswith(("_interval", "_warning")):
        raise ValueError(f"reports have a column {name} already; give the function another name")
    try:
        inspect.signature(found).bind(None, None)
    except (TypeError, ValueError):  # not a function, or of other arguments
        raise ValueError(f"--score: {module}:{name} is not a function of (images, prompts)") from None
    source = inspect.getsourcefile(sys.modules[module])
    digest = hashlib.sha256(Path(source).read_bytes()).hexdigest() if source else None
    return Scorer(name, found, {"name": f"{module}:{name}", "source": digest})


def _clip_score(extractor: str, device: str | torch.device) -> Scorer:
    """CLIP score by any extractor that embeds text too."""
    return _cosine("clip_score", extractor or "clip", device, clip_score)


def _hps(weights: str, device: str | torch.device) -> Scorer:
    """HPS v2 (arXiv 2306.09341): the cosine of CLIP ViT-H/14, tuned on preferences. Its checkpoint is a pickle."""
    if not weights:
        raise ValueError("hps needs its weights as a safetensors file: hps:FILE (docs/evaluation.md converts them)")
    cosine = torch.nn.functional.cosine_similarity
    return _cosine("hps", f"{HPS}:{weights}", device, lambda a, b: cosine(a.float(), b.float(), dim=1))


def _cosine(name: str, text: str, device: str | torch.device, compare: Callable) -> Scorer:
    extractor = load_extractor(text, device)
    embed = extractor.embed_texts
    if embed is None:
        raise ValueError(f"{text} does not embed text; {name} needs a CLIP model, such as open_clip:ViT-B-32:FILE")
    return Scorer(name, lambda images, asked: compare(extractor(images)["features"], embed(texts(name, asked))),
                  {"name": name, **extractor.identity})  # fmt: skip


def _pickscore(folder: str, device: str | torch.device) -> Scorer:
    """PickScore (arXiv 2305.01569): the scaled cosine of a CLIP model tuned on users' choices."""
    from transformers import AutoProcessor, CLIPModel

    name = folder or PICKSCORE
    load: dict[str, Any] = {"use_safetensors": True, "trust_remote_code": False}
    model = with_weights(name, lambda: CLIPModel.from_pretrained(name, **load)).to(device).eval()
    processor = with_weights(name, lambda: AutoProcessor.from_pretrained(name, trust_remote_code=False))

    def score(images: torch.Tensor, asked: Sequence[str | int]) -> torch.Tensor:
        words = processor.tokenizer(
            texts("pickscore", asked), padding=True, truncation=True, max_length=77, return_tensors="pt"
        )
        eight_bits = (images * 255).round().to(torch.uint8)  # resized and rounded as image files are
        pixels = processor.image_processor(list(eight_bits.cpu()), return_tensors="pt")
        found = model(**words.to(device), **pixels.to(device))
        return model.logit_scale.exp() * (found.image_embeds * found.text_embeds).sum(1)

    return Scorer("pickscore", score, {"name": name, "weights": weights_sha256(model)})


def _pyiqa(metric: str, device: str | torch.device) -> Scorer:
    """A metric of pyiqa that needs no other image. Where lower is better the sign is changed, and the name says so."""
    library = package("pyiqa")
    with _no_pickles():
        found = with_weights(f"pyiqa:{metric}", lambda: library.create_metric(metric, device=torch.device(device)))
    if found.metric_mode != "NR":
        raise ValueError(f"pyiqa:{metric} compares with another image; choose one of pyiqa.list_models('NR')")
    sign, name = (-1, f"minus_{metric}") if found.lower_better else (1, metric)
    identity = {"name": f"pyiqa:{metric}", "version": getattr(library, "__version__", None)}
    return Scorer(re.sub(r"\W", "_", name), lambda images, asked: sign * found(images.to(device)).flatten(), identity)


@contextmanager
def _no_pickles() -> Iterator[None]:
    """Meanwhile nothing is unpickled by torch: pyiqa asks for weights_only=False."""

    def refused(*_: object, **__: object) -> None:
        raise ValueError("it unpickles its weights, which is not done here; name a function of your own")

    with mock.patch.object(torch, "load", refused), mock.patch.object(torch.jit, "load", refused):
        yield


def texts(name: str, asked: Sequence[str | int]) -> list[str]:
    """`asked` if these are prompts. Raises ValueError for class ids."""
    if any(not isinstance(one, str) for one in asked):
        raise ValueError(f"{name} compares images with prompts, and this run draws classes")
    return [str(one) for one in asked]


_BUILT_IN: dict[str, Callable[[str, str | torch.device], Scorer]] = {
    "clip-score": _clip_score,
    "pickscore": _pickscore,
    "hps": _hps,
    "pyiqa": _pyiqa,
}
