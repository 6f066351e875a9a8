import { isWaking } from "../api";
import { t } from "../texts";
import { waits, wake } from "../waits";
import { useNow } from "./useNow";

/** Why something waits for its next try, in how many seconds that is, and a button for now. Nothing if nothing waits. */
export function Again() {
  const long = waits.value.filter(({ isLong }) => isLong);
  const next = [...long].sort((a, b) => (a.at ?? Infinity) - (b.at ?? Infinity))[0];
  return (
    <div class="again small" role="status">
      {next ? (
        <div class="again-body">
          <span>{t.again[next.why]}</span>
          <Countdown at={next.at} />
          <button type="button" onClick={wake}>
            {t.again.now}
          </button>
        </div>
      ) : (
        isWaking.value && <div class="again-body muted">{t.again.waking}</div>
      )}
    </div>
  );
}

/** Not said by a screen reader, which would say each second. */
function Countdown({ at }: { at: number | null }) {
  const now = useNow(250);
  return (
    <span class="muted again-next" aria-hidden="true">
      {at === null ? t.again.trying : t.again.next(Math.max(1, Math.ceil((at - now) / 1000)))}
    </span>
  );
}
