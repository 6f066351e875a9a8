"""The FFmpeg arguments of outputs. What several outputs of a job have in common is stored once.

Outputs that were made together have equal arguments, except that each calls its own files `OUTPUT`, `PACKETS`
and `POSTER`, and those of the others `OUTPUT-var02` and so on (docs/api.md). So the row holds the arguments
with all files called by their label, compressed.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Sequence

from control.store.tables import Arguments, Output
from control.store.transaction import Transaction

_OWN = re.compile(r"\b(OUTPUT|PACKETS|POSTER)\b(?!-)")


def label_of(output: Output) -> str:
    """Return the name of an output in arguments: equal in each attempt, and empty for a preset."""
    return f"var{output.variation:02}" if output.variation else ""


def keep(tx: Transaction, output: Output, args: Sequence[str]) -> None:
    """Store the arguments that made an output, so that `arguments_of` returns them unchanged.

    Arguments that are not as a runner of ours names its files stay in the output's own row.
    """
    shared = _labelled(args, label_of(output))
    if _own(shared, label_of(output)) != list(args):
        output.arguments, output.ffmpeg_args = None, list(args)
        return
    text = json.dumps(shared).encode()
    digest = hashlib.sha256(text).hexdigest()[:16]  # unique within a job
    if tx.session.get(Arguments, (output.job_id, digest)) is None:
        tx.session.add(Arguments(job_id=output.job_id, digest=digest, packed=zlib.compress(text)))
    output.arguments, output.ffmpeg_args = digest, None


def arguments_of(output: Output, packed: bytes | None) -> list[str] | None:
    """Return the arguments that made an output, by its row of `Arguments` if it has one."""
    if packed is None:
        return output.ffmpeg_args
    return _own(json.loads(zlib.decompress(packed)), label_of(output))


def _labelled(args: Sequence[str], label: str) -> list[str]:
    return [_OWN.sub(rf"\1-{label}", arg) for arg in args] if label else list(args)


def _own(args: Sequence[str], label: str) -> list[str]:
    pattern = re.compile(rf"\b(OUTPUT|PACKETS|POSTER)-{label}\b(?!-)")
    return [pattern.sub(r"\1", arg) for arg in args] if label else list(args)
