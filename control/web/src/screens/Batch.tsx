import { useSignal } from "@preact/signals";
import { useEffect, useMemo, useState } from "preact/hooks";
import { Actions } from "../components/Actions";
import { Bar } from "../components/Bar";
import { Chosen } from "../components/Chosen";
import { Machines } from "../components/Machines";
import { Notice } from "../components/Notice";
import { Pill } from "../components/Pill";
import { Player } from "../components/Player";
import { Sources } from "../components/Sources";
import { Story } from "../components/Story";
import { useNow } from "../components/useNow";
import { usePlaying } from "../components/usePlaying";
import { LiveBatch } from "../live";
import { linkTo, replace } from "../route";
import { type Batch, isAtWork, isLive, isReady, outputsOf, sizeOf } from "../shapes";
import { t } from "../texts";
import { useTabProgress } from "../told";
import { bytes, clock, exactMoney, money, progress, said, span, title, videosOf, when } from "../words";

const STALE_MS = 15_000;
const SAID_EVERY = 25; // per cent

interface Props {
  id: string;
  /** The output that is played, or null. */
  output: string | null;
}

/** One batch, from its start until it is gone. */
export function BatchScreen({ id, output }: Props) {
  const live = useMemo(() => new LiveBatch(id), [id]);
  useEffect(() => () => live.close(), [live]);
  useTabProgress(live);
  const chosen = useSignal<ReadonlySet<string>>(new Set());
  const [head, setHead] = useState<HTMLElement | null>(null);
  const isHeadAway = useIsAway(head);
  const batch = live.batch.value;
  const problem = live.problem.value;
  const playing = batch && outputsOf(batch).find((one) => one.output_id === output && isReady(one));
  const play = usePlaying((one) => linkTo(id, one), output);
  useEffect(() => {
    if (batch && output && !playing) replace(linkTo(id)); // it is not there, or not yet
  }, [batch, output]);
  if (!batch)
    return problem ? <Missing message={problem.message} isPassing={problem.isPassing} /> : <Loading />;
  return (
    <div class="stack loose">
      <header class="batch-head" ref={setHead}>
        <Head batch={batch} />
        <Actions live={live} batch={batch} />
      </header>
      <Standing live={live} batch={batch} />
      {batch.status !== "expired" && (
        <Sources batch={batch} ticket={live.ticket.value} chosen={chosen} onPlay={play} />
      )}
      <Details live={live} batch={batch} />
      {batch.status !== "expired" && <Chosen batch={batch} chosen={chosen} isDownloadAway={isHeadAway} />}
      {playing && (
        <Player batch={batch} output={playing} ticket={live.ticket.value} chosen={chosen} onPlay={play} />
      )}
    </div>
  );
}

/** Whether an element has been scrolled out of sight. */
function useIsAway(element: HTMLElement | null): boolean {
  const isAway = useSignal(false);
  useEffect(() => {
    if (!element) return;
    const observer = new IntersectionObserver(([entry]) => {
      isAway.value = entry ? !entry.isIntersecting : false;
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, [element]);
  return isAway.value;
}

function Loading() {
  return (
    <p class="muted loading" role="status">
      {t.batch.loading}
    </p>
  );
}

function Missing({ message, isPassing }: { message: string; isPassing: boolean }) {
  return (
    <div class="stack">
      <h1>{isPassing ? t.batch.notReachable : t.batch.notFound}</h1>
      <Notice tone="bad">
        {message} {!isPassing && t.batch.mayBeDeleted}
      </Notice>
      <a href="#/batches">{t.batch.all}</a>
    </div>
  );
}

function Head({ batch }: { batch: Batch }) {
  return (
    <div class="batch-title">
      <h1>{title(batch)}</h1>
      {batch.name && <p class="muted">{videosOf(batch)}</p>}
      <p class="muted small">
        <Pill of={batch} /> <span>{when(batch.created_at)}</span> <span>{money(batch.cost_usd)}</span>
        <Expiry batch={batch} />
      </p>
    </div>
  );
}

function Expiry({ batch }: { batch: Batch }) {
  const now = useNow(30_000);
  if (!batch.expires_at || batch.status === "expired") return null;
  const leftS = (Date.parse(batch.expires_at) - now) / 1000;
  return (
    <span title={when(batch.expires_at)}>
      {leftS > 0 ? t.words.keptFor(span(leftS)) : t.batch.expiresNow}
    </span>
  );
}

function Standing({ live, batch }: { live: LiveBatch; batch: Batch }) {
  return (
    <section class="card stack standing-card" aria-label={t.batch.progress}>
      <div class="standing">
        <strong>{progress(batch)}</strong>
        {isLive(batch) ? (
          <Bar percent={batch.progress.percent} label={t.batch.whole} />
        ) : (
          <span class="muted small">{made(batch)}</span>
        )}
      </div>
      <Said batch={batch} />
      <Freshness live={live} isLive={isLive(batch)} />
      {isLive(batch) && batch.waiting && <Notice>{t.batch.waiting(waiting(batch))}</Notice>}
      {batch.error && <Notice tone="bad">{said("results", batch.error)}</Notice>}
      {batch.status === "expired" && batch.expires_at && (
        <Notice>{t.batch.expired(when(batch.expires_at))}</Notice>
      )}
    </section>
  );
}

/** What an ended batch amounts to. */
function made(batch: Batch): string {
  const size = sizeOf(outputsOf(batch).filter(isReady));
  const ms = batch.ended_at ? Date.parse(batch.ended_at) - Date.parse(batch.created_at) : 0;
  return [size && bytes(size), ms && t.batch.took(span(ms / 1000))].filter(Boolean).join(" · ");
}

/** Why nothing moves; machines that are in use may be its own. */
function waiting({ waiting: why, attempts }: Batch): string {
  const own = attempts.filter(isAtWork).length;
  return why?.code === "machine_cap" && own ? t.batch.ownMachines(own) : why ? said("waiting", why) : "";
}

/** The progress for a screen reader, at each quarter and at the end. */
function Said({ batch }: { batch: Batch }) {
  const quarter = Math.floor(batch.progress.percent / SAID_EVERY);
  const text = useMemo(() => progress(batch), [quarter, batch.status]);
  return (
    <p class="visually-hidden" role="status">
      {text}
    </p>
  );
}

/** Says so when what is shown may have changed since. */
function Freshness({ live, isLive: isMoving }: { live: LiveBatch; isLive: boolean }) {
  const now = useNow(1000);
  const isAway = live.problem.value !== null;
  if (!isAway && (!isMoving || now - live.freshAt.value < STALE_MS)) return null;
  return (
    <span class="stale" role="status">
      {isAway && t.batch.noConnection}
      {t.batch.lastUpdated(clock(live.freshAt.value))}
    </span>
  );
}

/** What only those want to know who look for a cause. */
function Details({ live, batch }: { live: LiveBatch; batch: Batch }) {
  const isOpen = useSignal(false);
  const { attempts } = batch;
  const machines = attempts.filter(({ machine_seconds }) => machine_seconds > 0);
  const seconds = machines.reduce((sum, { machine_seconds }) => sum + machine_seconds, 0);
  return (
    <details
      class="card details"
      onToggle={(event) => {
        isOpen.value = event.currentTarget.open;
      }}
    >
      <summary>
        {t.batch.details}{" "}
        {machines.length > 0 && (
          <span class="muted small">
            {t.batch.detailsOf(machines.length, span(seconds), exactMoney(batch.cost_usd))}
          </span>
        )}
      </summary>
      {isOpen.value && (
        <div class="pair">
          <Machines batch={batch} />
          <Story live={live} batch={batch} />
        </div>
      )}
    </details>
  );
}
