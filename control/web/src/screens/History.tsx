import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { get, inWords } from "../api";
import { Bar } from "../components/Bar";
import { Notice } from "../components/Notice";
import { Pill } from "../components/Pill";
import { useNow } from "../components/useNow";
import { linkTo } from "../route";
import { type BatchSummary, isLive, type Page, type Status } from "../shapes";
import { count, money, progress, STATUS, span, when } from "../words";

const PAGE = 30;
const AGAIN_MS = 5000;

/** All batches, newest first. */
export function History() {
  const filter = useSignal<Status | "">("");
  const items = useSignal<BatchSummary[] | null>(null);
  const cursor = useSignal<string | null>(null);
  const problem = useSignal<string | null>(null);

  const load = async (after: string | null, isQuiet = false) => {
    const query = new URLSearchParams({ limit: String(PAGE) });
    if (filter.value) query.set("status", filter.value);
    if (after) query.set("cursor", after);
    const wanted = filter.value;
    try {
      const page = await get<Page<BatchSummary>>(`batches?${query}`);
      if (wanted !== filter.value) return;
      problem.value = null;
      items.value = after ? [...(items.value ?? []), ...page.items] : page.items;
      cursor.value = page.next_cursor;
    } catch (error) {
      if (!isQuiet || wanted === filter.value) problem.value = inWords(error);
    }
  };
  useEffect(() => {
    items.value = null;
    void load(null);
    const timer = setInterval(() => {
      const isFirstPage = (items.value?.length ?? 0) <= PAGE;
      if (!document.hidden && isFirstPage) void load(null, true);
    }, AGAIN_MS);
    return () => clearInterval(timer);
  }, [filter.value]);

  return (
    <div class="stack loose">
      <div class="row">
        <h1>Batches</h1>
        <label class="filter">
          <span class="muted small">Show</span>
          <select
            value={filter.value}
            onChange={(event) => {
              filter.value = event.currentTarget.value as Status | "";
            }}
          >
            <option value="">all</option>
            {Object.entries(STATUS).map(([value, name]) => (
              <option key={value} value={value}>
                {name.toLowerCase()}
              </option>
            ))}
          </select>
        </label>
      </div>
      {problem.value && <Notice tone="bad">{problem.value}</Notice>}
      {items.value?.length === 0 && (
        <div class="card empty-card">
          <p>{filter.value ? `No batch is ${STATUS[filter.value].toLowerCase()}.` : "No batches yet."}</p>
          <a class="button primary" href="#/">
            Make one
          </a>
        </div>
      )}
      <ul class="batches">
        {items.value?.map((batch) => (
          <Line key={batch.batch_id} batch={batch} />
        ))}
      </ul>
      {cursor.value && (
        <button type="button" onClick={() => load(cursor.value)}>
          Show more
        </button>
      )}
    </div>
  );
}

function Line({ batch }: { batch: BatchSummary }) {
  const now = useNow(30_000);
  const leftS = batch.expires_at ? (Date.parse(batch.expires_at) - now) / 1000 : null;
  const isExpired = batch.status === "expired";
  return (
    <li>
      <a class={`card batch-line ${isExpired ? "expired" : ""}`} href={linkTo(batch.batch_id)}>
        <Pill of={batch} />
        <span class="batch-what">
          <strong>{count(batch.progress.total, "video")}</strong>
          <span class="muted small">{when(batch.created_at)}</span>
        </span>
        <span class="batch-progress small">
          {isLive(batch) ? (
            <>
              <span>{progress(batch)}</span>
              <Bar percent={batch.progress.percent} label="Progress" />
            </>
          ) : (
            <span class="muted">{progress(batch)}</span>
          )}
        </span>
        <span class="batch-cost small">{money(batch.cost_usd)}</span>
        <span class="batch-expiry muted small">
          {leftS !== null && !isExpired && leftS > 0 ? `kept for ${span(leftS)}` : ""}
        </span>
      </a>
    </li>
  );
}
