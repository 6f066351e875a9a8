"""One pass: see that browsers may use the bucket. What is wrong is named by `ready`; it never stops a start.

Must never replace a rule that is there: another control may share the bucket.
"""

from __future__ import annotations

from control.context import AppContext
from control.telemetry.log import log_event
from infra.ports import Refused


def check_bucket_rules(context: AppContext) -> None:
    """Set the bucket's rules if it has none, else compare them with our origins. Raises Unanswered."""
    origins = context.settings.origins
    try:
        allowed = context.storage.allowed_origins()
        if not allowed:
            if warning := context.storage.set_rules(origins):
                log_event("lifecycle_rule_refused", error=warning)
            allowed = context.storage.allowed_origins()
    except Refused as error:
        log_event("bucket_rules_refused", error=str(error))
        context.cloud.rules_wrong = "the bucket refuses its CORS rule; run: refresher bucket-rules"
        return
    missing = () if "*" in allowed else [each for each in origins if each not in allowed]
    context.cloud.rules_wrong = (
        f"the bucket's CORS rule lacks {', '.join(missing)}; run: refresher bucket-rules" if missing else None
    )
