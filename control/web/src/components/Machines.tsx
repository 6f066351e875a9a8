import { type Attempt, type Batch, isLive } from "../shapes";
import { t } from "../texts";
import { attempt, exactMoney, span } from "../words";
import { useNow } from "./useNow";

/** Every try of every job on one line of time. */
export function Machines({ batch }: { batch: Batch }) {
  const now = useNow(isLive(batch) ? 1000 : 60_000);
  const from = Date.parse(batch.created_at);
  const to = Math.max(from + 1000, batch.ended_at ? Date.parse(batch.ended_at) : now);
  return (
    <section class="stack" aria-label={t.machines.title}>
      <h2>{t.machines.title}</h2>
      {batch.attempts.length === 0 && <p class="muted small">{t.machines.none}</p>}
      <ol class={`attempts ${batch.status}`}>
        {batch.attempts.map((one) => (
          <Line key={one.attempt_id} of={one} from={from} to={to} />
        ))}
      </ol>
    </section>
  );
}

function Line({ of, from, to }: { of: Attempt; from: number; to: number }) {
  const end = of.ended_at ? Date.parse(of.ended_at) : to;
  const start = Math.max(from, end - of.machine_seconds * 1000);
  const percent = (ms: number) => Math.max(0, Math.min(100, (100 * ms) / (to - from)));
  const isBad = of.state === "failed" || of.state === "lost";
  return (
    <li>
      <div class="row small">
        <span>
          <strong>{of.size}</strong> {of.region && <span class="muted">{t.machines.region(of.region)}</span>}
          {of.number > 1 && <span class="muted"> · {t.machines.attempt(of.number)}</span>}
        </span>
        <span class="muted">
          {span(of.machine_seconds)} · {exactMoney(of.cost_usd)}
        </span>
      </div>
      <div class="timeline" aria-hidden="true">
        <div
          class={`timeline-run ${of.state}`}
          style={{ left: `${percent(start - from)}%`, width: `max(4px, ${percent(end - start)}%)` }}
        />
      </div>
      <div class={`small ${isBad ? "bad-text" : "muted"}`}>{attempt(of)}</div>
    </li>
  );
}
