"""The one-shot runner."""

import os

# To look for plug-ins, pydantic reads the metadata of every installed package: a tenth of the start-up.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
