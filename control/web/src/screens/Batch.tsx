import { useSignal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import { Actions } from "../components/Actions";
import { Bar } from "../components/Bar";
import { Machines } from "../components/Machines";
import { Notice } from "../components/Notice";
import { Pill } from "../components/Pill";
import { Player } from "../components/Player";
import { Sources } from "../components/Sources";
import { Story } from "../components/Story";
import { useNow } from "../components/useNow";
import { LiveBatch } from "../live";
import { type Batch, isLive, type Output } from "../shapes";
import { clock, money, progress, span, title, when } from "../words";

const STALE_MS = 15_000;

/** One batch, from its start until it is gone. */
export function BatchScreen({ id }: { id: string }) {
  const live = useMemo(() => new LiveBatch(id), [id]);
  useEffect(() => () => live.close(), [live]);
  const playing = useSignal<Output | null>(null);
  const batch = live.batch.value;
  const problem = live.problem.value;
  if (!batch)
    return problem ? <Missing message={problem.message} isPassing={problem.isPassing} /> : <Loading />;
  return (
    <div class="stack loose">
      <Head live={live} batch={batch} />
      <Standing live={live} batch={batch} />
      {batch.status !== "expired" && (
        <Sources
          batch={batch}
          ticket={live.ticket.value}
          onPlay={(output) => {
            playing.value = output;
          }}
        />
      )}
      <div class="pair">
        <Machines batch={batch} />
        <Story live={live} />
      </div>
      {playing.value && (
        <Player
          batch={batch}
          output={playing.value}
          ticket={live.ticket.value}
          onPlay={(output) => {
            playing.value = output;
          }}
        />
      )}
    </div>
  );
}

function Loading() {
  return (
    <p class="muted" role="status">
      Loading…
    </p>
  );
}

function Missing({ message, isPassing }: { message: string; isPassing: boolean }) {
  return (
    <div class="stack">
      <h1>{isPassing ? "Not reachable" : "Not found"}</h1>
      <Notice tone="bad">
        {message} {!isPassing && "It may have been deleted."}
      </Notice>
      <a href="#/batches">All batches</a>
    </div>
  );
}

function Head({ live, batch }: { live: LiveBatch; batch: Batch }) {
  return (
    <header class="batch-head">
      <div class="batch-title">
        <h1>{title(batch)}</h1>
        <p class="muted small">
          <Pill of={batch} /> <span>{when(batch.created_at)}</span> <span>{money(batch.cost_usd)}</span>
          <Expiry batch={batch} />
        </p>
      </div>
      <Actions live={live} batch={batch} />
    </header>
  );
}

function Expiry({ batch }: { batch: Batch }) {
  const now = useNow(30_000);
  if (!batch.expires_at || batch.status === "expired") return null;
  const leftS = (Date.parse(batch.expires_at) - now) / 1000;
  return (
    <span title={when(batch.expires_at)}>{leftS > 0 ? `kept for ${span(leftS)} more` : "expires now"}</span>
  );
}

function Standing({ live, batch }: { live: LiveBatch; batch: Batch }) {
  return (
    <section class="card stack" aria-label="Progress">
      <div class="row">
        <strong role="status">{progress(batch)}</strong>
        <Freshness live={live} isLive={isLive(batch)} />
      </div>
      <Bar
        percent={batch.status === "completed" ? 100 : batch.progress.percent}
        label="The whole batch"
        tone={isLive(batch) || batch.status === "completed" ? undefined : "still"}
      />
      {isLive(batch) && batch.waiting && <Notice>Waiting: {batch.waiting.message}</Notice>}
      {batch.error && <Notice tone="bad">{batch.error.message}</Notice>}
      {batch.status === "expired" && (
        <Notice>The videos of this batch have expired and were removed. Its record stays.</Notice>
      )}
    </section>
  );
}

/** Says so when what is shown may have changed since. */
function Freshness({ live, isLive: isMoving }: { live: LiveBatch; isLive: boolean }) {
  const now = useNow(1000);
  const isAway = live.problem.value !== null;
  if (!isAway && (!isMoving || now - live.freshAt.value < STALE_MS)) return null;
  return (
    <span class="stale small" role="status">
      {isAway ? "No connection. " : ""}Last updated {clock(live.freshAt.value)}
    </span>
  );
}
