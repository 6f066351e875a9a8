"""The one-shot runner."""

import os

# Looking for plug-ins of pydantic reads the metadata of every installed package: a tenth of the start-up.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
