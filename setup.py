"""What pyproject.toml cannot say: links of README.md that also work on a package index.

They lead to `Repository` of `[project.urls]`. While there is none, a link is its text, and an image is its caption.
"""

import re
from typing import Any

from setuptools import Distribution, setup


LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!\w+:|#)([^)]+)\)")  # to a file of the project
NOTE = "\n\nThe documents and images named here are part of the source distribution.\n"


def described(readme: str, repository: str | None) -> str:
    """`readme` in Markdown, without relative links."""
    if repository is None:
        return LINK.sub(lambda link: f"*{link[3]}: {link[2]}*" if link[1] else link[2], readme.rstrip()) + NOTE
    base = repository.rstrip("/")
    return LINK.sub(lambda link: f"{link[1]}[{link[2]}]({base}/{'raw' if link[1] else 'blob'}/main/{link[3]})", readme)


class Described(Distribution):
    """Its long description is `described`."""

    def parse_config_files(self, *args: Any, **kwargs: Any) -> None:
        super().parse_config_files(*args, **kwargs)
        urls = self.metadata.project_urls or {}
        self.metadata.long_description = described(self.metadata.long_description, urls.get("Repository"))


if __name__ == "__main__":
    setup(distclass=Described)
