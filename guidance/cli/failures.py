"""One way to fail, for all commands: one sentence on stderr, and an exit code that says what kind of failure it is.

| code | meaning |
| --- | --- |
| 0 | done |
| 2 | bad input: an argument, a file, a missing package, a full disk or device |
| 3 | done in part: some files were not scored |
| 4 | verify: the image does not match its record |
| 130 | interrupted; the same command resumes where it stopped |

Anything else is a fault of this package: a traceback, and Python's own exit code 1.
"""

import os
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager


DONE, BAD_INPUT, PARTLY, DIFFERENT, INTERRUPTED, CLOSED = 0, 2, 3, 4, 130, 141

#: Errors of libraries that mean bad input, by module and name, so that none of them is imported for this.
_BAD_INPUT = {
    ("PIL", "UnidentifiedImageError"),
    ("PIL.Image", "DecompressionBombError"),
    ("binascii", "Error"),
    ("builtins", "MemoryError"),
    ("builtins", "RecursionError"),
    ("diffusion_guidance.core.step", "MissingUnconditionalError"),
    ("struct", "error"),
    ("torch", "OutOfMemoryError"),
    ("torch.cuda", "OutOfMemoryError"),
    ("zipfile", "BadZipFile"),
    ("zlib", "error"),
}
_SAYING_NOTHING = {
    "MemoryError": "there is not enough memory for this",
    "RecursionError": "a file or value is nested too deep",
    "OutOfMemoryError": "the device has not enough memory for this; give a smaller --batch-size",
}


class BadInputError(ValueError):
    """What the user gave cannot be used; the message is the sentence."""


def guarded(name: str, function: Callable[[], int | None]) -> int:
    """Call `function` and return its exit code; what it raises for bad input becomes a sentence on stderr."""
    try:
        code = function()
        sys.stdout.flush()
        return code or DONE
    except KeyboardInterrupt:
        return _said(name, "interrupted; the same command resumes where it stopped", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED
    except Exception as error:
        if not is_bad_input(error):
            raise
        return _said(name, sentence(error), BAD_INPUT)


def is_bad_input(error: BaseException) -> bool:
    """Whether `error` is about what was given, and not a fault of this package."""
    if isinstance(error, ValueError | OSError | ImportError):
        return True
    names = {(kind.__module__, kind.__name__) for kind in type(error).__mro__}
    return bool(names & _BAD_INPUT) or any(name == "SafetensorError" for _, name in names) or _is_of_size(error)


def _is_of_size(error: BaseException) -> bool:
    """Whether torch cannot hold a tensor in the memory of the CPU: it has no class of its own for that."""
    said = str(error)
    return isinstance(error, RuntimeError) and ("DefaultCPUAllocator" in said or "overflow" in said)


@contextmanager
def blaming(names: Collection[str]) -> Iterator[None]:
    """What a pipeline raises for arguments of its call that the user gave, by `names`, is bad input."""
    try:
        yield
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError) as error:
        if not names or is_bad_input(error):
            raise
        reason = f"{type(error).__name__}: {sentence(error)[:300]}"
        raise BadInputError(f"the pipeline failed with --call {', '.join(names)} ({reason})") from error


def sentence(error: BaseException) -> str:
    """What `error` says, in one line."""
    name = type(error).__name__
    if name in _SAYING_NOTHING:
        return _SAYING_NOTHING[name]
    if _is_of_size(error):
        return _SAYING_NOTHING["MemoryError"]
    return " ".join(str(error).split())[:1000] or name


def _said(name: str, message: str, code: int) -> int:
    print(f"{name}: {message}", file=sys.stderr)
    return code
