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

import torch
import transformers
from diffusers.pipelines import kolors
from diffusers.pipelines.kolors import text_encoder as kolors_text
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors


_SPECIAL = ("<pad>", "</s>", "<s>", "<unk>", "<image>", "<|im_start|>", "<|im_end|>", "<|vision_start|>")
_IMAGE = ("<|image_pad|>", "<|vision_end|>", "<|video_pad|>")
_TINY = {"vocab_size": 1103, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37}
_T5 = {"vocab_size": 1103, "d_model": 32, "d_kv": 8, "d_ff": 37, "num_layers": 2, "num_heads": 4}
_TOKENIZERS = (
    *("AutoTokenizer", "CLIPTokenizer", "T5Tokenizer", "T5TokenizerFast", "Qwen2Tokenizer", "Qwen2TokenizerFast"),
    *("GemmaTokenizer", "GemmaTokenizerFast", "LlamaTokenizer", "LlamaTokenizerFast", "XLMRobertaTokenizerFast"),
    *("RobertaTokenizer", "GPT2Tokenizer", "BertTokenizer", "ByT5Tokenizer"),
)
_PROCESSORS = ("Qwen2VLProcessor", "Qwen2_5_VLProcessor", "Qwen3VLProcessor", "GlmImageProcessor")
_TEMPLATE = (
    "{% for m in messages %}{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for part in m['content'] %}"
    "{{ part['text'] if part['type'] == 'text' else '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{% endfor %}{% endif %}{% endfor %}"
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
    fast.add_special_tokens({"additional_special_tokens": [*_SPECIAL[4:], *_IMAGE]})
    fast.image_token = "<|image_pad|>"
    fast.image_token_id = fast.convert_tokens_to_ids(fast.image_token)
    fast.chat_template, fast.padding_side = _TEMPLATE, "right"
    return fast


class _PlacedTokenizer:
    """A tokenizer that tells positions too, as ChatGLM's does."""

    def __init__(self):
        self._tokenizer = tokenizer(77)

    def __call__(self, *args, **kwargs) -> transformers.BatchEncoding:
        found = self._tokenizer(*args, **kwargs)
        return transformers.BatchEncoding({**found, "position_ids": found["attention_mask"].cumsum(-1) - 1})


def _processor(name: str) -> transformers.ProcessorMixin:
    kind = getattr(transformers, name)
    pixels = {"min_pixels": 4 * 28 * 28, "max_pixels": 4 * 28 * 28}
    if name == "GlmImageProcessor":
        return kind(transformers.GlmImageImageProcessor(**pixels), tokenizer(512), chat_template=_TEMPLATE)
    video = transformers.Qwen3VLVideoProcessor() if "3" in name else transformers.Qwen2VLVideoProcessor()
    pixels["patch_size"] = 16 if "3" in name else 14
    return kind(transformers.Qwen2VLImageProcessor(**pixels), tokenizer(512), video, chat_template=_TEMPLATE)


def siglip(width: int = 32) -> transformers.SiglipVisionModel:
    sizes = {"hidden_size": width, "intermediate_size": 37, "num_hidden_layers": 1, "num_attention_heads": 4}
    return transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**sizes, image_size=30, patch_size=2))


def _networks() -> dict:
    def gemma():
        heads = {"num_attention_heads": 2, "intermediate_size": 16}
        text = _TINY | heads | {"hidden_size": 32, "num_key_value_heads": 2, "head_dim": 8}
        vision = heads | {"hidden_size": 16, "num_hidden_layers": 1, "image_size": 16, "patch_size": 8}
        config = transformers.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
        return transformers.Gemma3ForConditionalGeneration(config)

    def qwen(kind: str):
        def make():
            rope = {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"}
            sizes = {"hidden_size": 16, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 2}
            text = sizes | {"num_key_value_heads": 2, "rope_scaling": rope, "vocab_size": 1103, "head_dim": 8}
            vision = {"depth": 2, "hidden_size": 32, "embed_dim": 32, "intermediate_size": 32, "num_heads": 2}
            vision |= {"out_hidden_size": 16, "deepstack_visual_indexes": [0], "num_position_embeddings": 64}
            config = getattr(transformers, f"{kind}Config")(text_config=text, vision_config=vision)
            return getattr(transformers, f"{kind}ForConditionalGeneration")(config)

        return make

    def glm():
        sizes = {"hidden_size": 8, "ffn_hidden_size": 16, "kv_channels": 8, "num_attention_heads": 2}
        sizes |= {"num_layers": 2, "padded_vocab_size": 1103, "seq_length": 512, "rmsnorm": True, "original_rope": True}
        sizes |= {"multi_query_attention": True, "multi_query_group_num": 2, "add_qkv_bias": True}
        network = kolors.ChatGLMModel(kolors_text.ChatGLMConfig(**sizes))
        for parameter in network.parameters():  # it leaves its memory as it is
            torch.nn.init.normal_(parameter, std=0.1)
        return network

    return {
        "Qwen2VLForConditionalGeneration": qwen("Qwen2VL"),
        "Qwen3VLForConditionalGeneration": qwen("Qwen3VL"),
        "ChatGLMModel": glm,
        "ChatGLMTokenizer": _PlacedTokenizer,
        "DPTImageProcessor": lambda: transformers.DPTImageProcessor(size={"height": 32, "width": 32}),
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
    makers |= {name: partial(_processor, name) for name in _PROCESSORS}
    makers["AutoProcessor"] = makers["Qwen2_5_VLProcessor"]
    for name, make in makers.items():
        kind = getattr(transformers, name, getattr(kolors, name, None))
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
