"""Tests reach no network: what is looked for at the Hub is not there at once, instead of after several retries."""

import os


os.environ["HF_HUB_OFFLINE"] = "1"
