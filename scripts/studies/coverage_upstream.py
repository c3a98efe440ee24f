"""Stand-ins for what diffusers' own tests of pipelines load from the Hub, and for the tests' shared modules.

Every dummy pipeline of a checkout can then be built offline: a tokenizer is one of a few dozen tokens, a network that
the tests load by name is a tiny random one.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import sys
import types
from functools import partial
from pathlib import Path
from typing import ClassVar

import transformers
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors


_SPECIAL = ("<pad>", "</s>", "<s>", "<unk>", "<image>", "<|im_start|>", "<|im_end|>", "<|vision_start|>")
_IMAGE = ("<|image_pad|>", "<|vision_end|>")
_TINY = {"vocab_size": 1103, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37}
_T5 = {"vocab_size": 1103, "d_model": 32, "d_kv": 8, "d_ff": 37, "num_layers": 2, "num_heads": 4}
_TOKENIZERS = (
    *("AutoTokenizer", "CLIPTokenizer", "T5Tokenizer", "T5TokenizerFast", "Qwen2Tokenizer", "Qwen2TokenizerFast"),
    *("GemmaTokenizer", "GemmaTokenizerFast", "LlamaTokenizer", "LlamaTokenizerFast", "XLMRobertaTokenizerFast"),
    *("RobertaTokenizer", "GPT2Tokenizer", "BertTokenizer", "ByT5Tokenizer"),
)
_TEMPLATE = (
    "{% for m in messages %}{{ m['content'] if m['content'] is string else m['content'][-1]['text'] }}{% endfor %}"
)


def tokenizer(length: int) -> transformers.PreTrainedTokenizerFast:
    """A word is its first letter."""
    tokens = [*_SPECIAL, *_IMAGE, *map(chr, range(33, 127))]
    made = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="<unk>"))
    made.normalizer = normalizers.Replace(Regex(r"(?<=[A-Za-z])[A-Za-z0-9]+|\s+"), "")
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    ends = [("<s>", 2), ("</s>", 1)]
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    names = {"pad_token": "<pad>", "eos_token": "</s>", "bos_token": "<s>", "unk_token": "<unk>"}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=length, **names)
    fast.chat_template, fast.padding_side = _TEMPLATE, "right"
    return fast


def _networks() -> dict:
    def gemma():
        heads = {"num_attention_heads": 2, "intermediate_size": 16}
        text = _TINY | heads | {"hidden_size": 32, "num_key_value_heads": 2, "head_dim": 8}
        vision = heads | {"hidden_size": 16, "num_hidden_layers": 1, "image_size": 16, "patch_size": 8}
        config = transformers.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
        return transformers.Gemma3ForConditionalGeneration(config)

    def siglip():
        sizes = {"hidden_size": 64, "intermediate_size": 37, "num_hidden_layers": 1, "num_attention_heads": 4}
        return transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**sizes, image_size=30, patch_size=2))

    return {
        "AutoConfig": lambda: transformers.T5Config(**_T5),
        "T5Config": lambda: transformers.T5Config(**_T5),
        "T5EncoderModel": lambda: transformers.T5EncoderModel(transformers.T5Config(**_T5)),
        "UMT5EncoderModel": lambda: transformers.UMT5EncoderModel(transformers.UMT5Config(**_T5)),
        "BertModel": lambda: transformers.BertModel(transformers.BertConfig(**_TINY, hidden_size=32)),
        "LlamaForCausalLM": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**_TINY, hidden_size=16)),
        "Gemma3ForConditionalGeneration": gemma,
        "SiglipVisionModel": siglip,
        "SiglipImageProcessor": lambda: transformers.SiglipImageProcessor(size={"height": 30, "width": 30}),
    }


def _replace_loading() -> None:
    makers = _networks()
    for name in _TOKENIZERS:
        makers[name] = partial(tokenizer, 77 if "CLIP" in name else 512)
    for name, make in makers.items():
        kind = getattr(transformers, name, None)
        if isinstance(kind, type):
            kind.from_pretrained = classmethod(lambda cls, *args, _make=make, **kwargs: _make())


class _StandIn(types.ModuleType):
    """A module that has any name: a class, where it is written like one, else a function that gives nothing."""

    __path__: ClassVar[list] = []

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        if name.isupper():
            return frozenset()
        kind = type(name, (), {"required_optional_params": frozenset(), "test_attention_slicing": False})
        setattr(self, name, kind if name[0].isupper() else lambda *args, **kwargs: None)
        return getattr(self, name)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Any module of the tests that cannot be found otherwise is a stand-in."""

    def find_spec(self, name: str, path=None, target=None):
        return importlib.util.spec_from_loader(name, self, is_package=True) if name.startswith("tests.") else None

    def create_module(self, spec) -> types.ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def install(checkout: Path) -> None:
    """Make `tests` the tests of `checkout`, in this process, and keep them from the Hub."""
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    for name in [name for name in sys.modules if name == "tests" or name.startswith("tests.")]:
        del sys.modules[name]
    sys.path.insert(0, str(checkout))
    shared = ("models", "models.autoencoders", "models.transformers", "models.unets", "lora", "lora.utils")
    further = ("models.autoencoders.vae", "models.transformers.test_models_transformer_flux")
    unet = "models.unets.test_models_unet_2d_condition"
    for name in ("pipelines.test_pipelines_common", *shared, *further, unet):
        sys.modules[f"tests.{name}"] = _StandIn(f"tests.{name}")
    sys.meta_path.append(_Finder())
    _replace_loading()


def dummy(checkout: Path, module: str, name: str) -> object:
    """The test in `module` that has dummy components of pipeline class `name`.

    Raises:
        LookupError: there is none.
    """
    install(checkout)
    for kind in vars(importlib.import_module(module)).values():
        stock, make = getattr(kind, "pipeline_class", None), getattr(kind, "get_dummy_components", None)
        if not (inspect.isclass(kind) and inspect.isclass(stock) and make) or kind.__module__ != module:
            continue
        wanted = [each.default for each in list(inspect.signature(make).parameters.values())[1:]]
        if name in [base.__name__ for base in stock.__mro__] and inspect.Parameter.empty not in wanted:
            return kind.__new__(kind)
    raise LookupError(f"{module} has no dummy components of {name}")
