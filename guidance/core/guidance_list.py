"""A list of callbacks that is shared like a model: saved to a folder, pushed to the hub, and read from either."""

import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from .callback import Guide, as_list
from .configuration import load_accompanying, save_guidance, to_config
from .files import write_atomic


FILE = "guidance.json"
_CARD = """---
library_name: diffusion-guidance
tags: [diffusion-guidance, diffusers]
---

# {title}

Settings of guidance for a diffusion pipeline; no weights.

```python
from diffusion_guidance import GuidanceList, attach

with attach(pipe, GuidanceList.from_pretrained("{repo_id}")):
    image = pipe(prompt).images[0]
```

```json
{config}
```
"""


class GuidanceList(list):
    """Callbacks in their order, for `attach`, that can be shared.

    A folder, or a repository of the hub, holds them as `guidance.json`, as `save_guidance` writes it, and a card. It
    may be that of a checkpoint: nothing else in it is touched.

    Raises:
        TypeError: what is given is not a callback.
    """

    def __init__(self, callbacks: Guide | Iterable[Guide] = ()):
        super().__init__(as_list(callbacks))

    def save_pretrained(
        self,
        folder: str | os.PathLike,
        push_to_hub: bool = False,
        repo_id: str | None = None,
        private: bool | None = None,
        token: str | None = None,
    ) -> None:
        """Write `guidance.json`, and README.md where there is none.

        Args:
            push_to_hub: also upload them; `repo_id` is the folder's name by default.

        Raises:
            ValueError: see `to_config`.
        """
        folder = Path(folder)
        config = to_config(self)
        folder.mkdir(parents=True, exist_ok=True)
        save_guidance(folder / FILE, self)
        card, name = folder / "README.md", repo_id or folder.resolve().name
        if not card.exists():
            text = _CARD.format(title=name.rpartition("/")[2], repo_id=name, config=json.dumps(config, indent=1))
            write_atomic(card, lambda temporary: temporary.write_text(text, encoding="utf-8"))
        if push_to_hub:
            self._upload(folder, name, private, token)

    def push_to_hub(self, repo_id: str, private: bool | None = None, token: str | None = None) -> str:
        """Upload to the repository `repo_id`, which is made if there is none; the address of the commit.

        A card that the repository has is left as it is.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, repo_id=repo_id)
            return self._upload(Path(folder), repo_id, private, token)

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike,
        trust_guidance: bool = False,
        revision: str | None = None,
        cache_dir: str | os.PathLike | None = None,
        token: str | None = None,
        local_files_only: bool = False,
    ) -> "GuidanceList":
        """The callbacks in a folder, or in a repository of the hub.

        Args:
            trust_guidance: also take callbacks that name files, networks or libraries; see `load_accompanying`.
            revision, cache_dir, token, local_files_only: of `huggingface_hub.hf_hub_download`.

        Raises:
            ValueError: there is no `guidance.json`, or it is not one that `save_guidance` wrote, or its callbacks need
                trust.
        """
        if Path(source).is_dir():
            path = Path(source) / FILE
            if not path.is_file():
                raise ValueError(f"{source} has no {FILE}; give a folder that save_pretrained wrote")
            return cls(load_accompanying(path, trust_guidance))
        from huggingface_hub import hf_hub_download  # lazy: only where the hub is asked
        from huggingface_hub.errors import EntryNotFoundError, HFValidationError, RepositoryNotFoundError

        asked = {"revision": revision, "cache_dir": cache_dir, "token": token, "local_files_only": local_files_only}
        try:
            found = hf_hub_download(str(source), FILE, **asked)
        except (EntryNotFoundError, HFValidationError, RepositoryNotFoundError) as error:
            said = str(error).strip().splitlines()[0]
            raise ValueError(f"{source} is neither a folder nor a repository with a {FILE}: {said}") from None
        return cls(load_accompanying(found, trust_guidance))

    @staticmethod
    def _upload(folder: Path, repo_id: str, private: bool | None, token: str | None) -> str:
        from huggingface_hub import HfApi

        api = HfApi(token=token)
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        names = [FILE] if api.file_exists(repo_id, "README.md") else [FILE, "README.md"]
        commit = api.upload_folder(
            repo_id=repo_id, folder_path=folder, allow_patterns=names, commit_message="Upload guidance"
        )
        return commit.commit_url
