import { type Signal, useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { get, inWords } from "../api";
import { BatchLines, type Chosen } from "../components/BatchLines";
import { Bulk, CHOOSE } from "../components/Bulk";
import { Notice } from "../components/Notice";
import { type Place, useKeptPlace } from "../components/useKeptPlace";
import * as session from "../session";
import { type BatchSummary, isLive, type Page, type Status } from "../shapes";
import { t } from "../texts";
import { STATUS } from "../words";

const PAGE = 30; // at first
const PAGE_MORE = 60;
const PAGE_MAX = 100; // that control sends
const AGAIN_MS = 5000;
const TYPING_MS = 250;
const TICKET_MS = 40 * 60 * 1000; // of an hour

/** What is looked for. It stands in the address, so that Back, a reload and a copied link keep it. */
interface Wanted {
  q: string;
  status: Status | "";
}

/** What was on the screen when it was left, so that Back leads to the same lines at the same place. */
interface Left {
  query: string;
  items: BatchSummary[];
  cursor: string | null;
  place: Place | null;
}

let left: Left | null = null;

function wanted(): Wanted {
  const query = new URLSearchParams(location.hash.split("?")[1]);
  const status = query.get("status") ?? "";
  return { q: query.get("q") ?? "", status: status in STATUS ? (status as Status) : "" };
}

const queryOf = ({ q, status }: Wanted): string =>
  new URLSearchParams({ ...(q && { q }), ...(status && { status }) }).toString();

/** All batches, newest first. */
export function History() {
  const filter = useSignal(wanted());
  const query = queryOf(filter.value);
  const before = left?.query === query ? left : null;
  const items = useSignal<BatchSummary[] | null>(before?.items ?? null);
  const cursor = useSignal<string | null>(before?.cursor ?? null);
  const problem = useSignal<string | null>(null);
  const chosen: Chosen = useSignal(null);
  const latest = useRef(query);
  latest.current = query;

  const read = async (more: string, take: (page: Page<BatchSummary>) => void) => {
    try {
      const page = await get<Page<BatchSummary>>(`batches?${[query, more].filter(Boolean).join("&")}`);
      if (latest.current !== query) return;
      problem.value = null;
      take(page);
    } catch (error) {
      if (latest.current === query) problem.value = inWords(error);
    }
  };
  /** Read again what may have changed: the first page, and all lines down to the last that is live. */
  const refresh = async () => {
    const known = items.value ?? [];
    const live = known.findLastIndex(isLive) + 1;
    const limit = Math.min(PAGE_MAX, Math.max(PAGE, live));
    await read(`limit=${limit}`, (page) => {
      const rest = page.next_cursor === null ? [] : below(items.value ?? [], page.items);
      if (!rest.length) cursor.value = page.next_cursor;
      items.value = [...steady(page.items, items.value ?? []), ...rest];
    });
  };
  /** Take what a call has answered with, and leave out what is deleted: both may lie below the first page. */
  const change = (fresh: BatchSummary[], deleted: ReadonlySet<string>) => {
    const known = new Map(steady(fresh, []).map((batch) => [batch.batch_id, batch]));
    items.value = (items.value ?? [])
      .filter(({ batch_id }) => !deleted.has(batch_id))
      .map((batch) => known.get(batch.batch_id) ?? batch);
  };
  const more = () =>
    read(`limit=${PAGE_MORE}&cursor=${encodeURIComponent(cursor.value ?? "")}`, (page) => {
      items.value = [...(items.value ?? []), ...steady(page.items, [])];
      cursor.value = page.next_cursor;
    });

  useEffect(() => {
    if (queryOf(wanted()) !== query)
      history.replaceState(history.state, "", `#/batches${query && "?"}${query}`);
    if (left?.query !== query) {
      items.value = null;
      cursor.value = null;
    }
    left = null;
    chosen.value = chosen.value && new Set();
    void refresh();
    const timer = setInterval(() => !document.hidden && void refresh(), AGAIN_MS);
    return () => clearInterval(timer);
  }, [query]);
  useEffect(() => {
    const follow = () => {
      if (/^#\/batches(\?|$)/.test(location.hash)) filter.value = wanted();
    };
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  useKeptPlace(before?.place ?? null, (place) => {
    left = items.value && { query: latest.current, items: items.value, cursor: cursor.value, place };
  });

  const isFiltered = query !== "";
  return (
    <div class="stack loose">
      <div class="list-head">
        <h1>{t.history.title}</h1>
        <Filter filter={filter} />
        {items.value && items.value.length > 0 && (
          <button
            type="button"
            id={CHOOSE}
            onClick={() => {
              chosen.value = chosen.value ? null : new Set();
            }}
          >
            {chosen.value ? t.history.stopChoosing : t.history.choose}
          </button>
        )}
      </div>
      {problem.value && <Notice tone="bad">{problem.value}</Notice>}
      {items.value?.length === 0 && (
        <div class="card empty-card" role="status">
          <p>{isFiltered ? t.history.noMatch : t.history.none}</p>
          {isFiltered ? (
            <button
              type="button"
              onClick={() => {
                filter.value = { q: "", status: "" };
              }}
            >
              {t.history.showAll}
            </button>
          ) : (
            <a class="button primary" href="#/">
              {t.history.make}
            </a>
          )}
        </div>
      )}
      <BatchLines items={items.value ?? []} chosen={chosen} />
      {cursor.value && <More key={cursor.value} onSeen={more} />}
      {chosen.value && items.value && items.value.length > 0 && (
        <Bulk items={items.value} chosen={chosen} onChange={change} />
      )}
    </div>
  );
}

const tickets = new Map<string, { ticket: string; at: number; of: string | null }>();

/** What is fresh, as the very object that is shown already where nothing has changed: its line is not drawn anew. */
function steady(fresh: BatchSummary[], shown: BatchSummary[]): BatchSummary[] {
  const known = new Map(shown.map((batch) => [batch.batch_id, batch]));
  return fresh.map((batch) => {
    const kept = { ...batch, ticket: keptTicket(batch) };
    const before = known.get(batch.batch_id);
    return before && JSON.stringify(before) === JSON.stringify(kept) ? before : kept;
  });
}

/** A batch's first ticket while it is good, in this session: each new one would load its pictures again. */
function keptTicket({ batch_id, ticket }: BatchSummary): string {
  const of = session.token.peek();
  const known = tickets.get(batch_id);
  if (known && known.of === of && Date.now() - known.at < TICKET_MS) return known.ticket;
  tickets.set(batch_id, { ticket, at: Date.now(), of });
  return ticket;
}

/** The lines that follow a first page: what lies between is gone. */
function below(shown: BatchSummary[], page: BatchSummary[]): BatchSummary[] {
  const last = page.at(-1);
  const at = shown.findIndex(({ batch_id }) => batch_id === last?.batch_id);
  const fresh = new Set(page.map(({ batch_id }) => batch_id));
  return shown.slice(at + 1).filter(({ batch_id }) => !fresh.has(batch_id));
}

function Filter({ filter }: { filter: Signal<Wanted> }) {
  const timer = useRef(0);
  const field = useRef<HTMLInputElement>(null);
  const { q, status } = filter.value;
  useEffect(() => {
    if (field.current && document.activeElement !== field.current) field.current.value = q;
  }, [q]);
  return (
    <search class="filter">
      <input
        ref={field}
        type="search"
        aria-label={t.history.search}
        placeholder={t.history.search}
        defaultValue={q}
        maxLength={100}
        onInput={(event) => {
          const typed = event.currentTarget.value.trim();
          clearTimeout(timer.current);
          timer.current = window.setTimeout(() => {
            filter.value = { ...filter.value, q: typed };
          }, TYPING_MS);
        }}
      />
      <select
        value={status}
        aria-label={t.history.show}
        onChange={(event) => {
          filter.value = { ...filter.value, status: event.currentTarget.value as Status | "" };
        }}
      >
        <option value="">{t.history.all}</option>
        {Object.entries(STATUS).map(([value, name]) => (
          <option key={value} value={value}>
            {name}
          </option>
        ))}
      </select>
    </search>
  );
}

/** Loads the next page when it is nearly in sight; the button is for whom it is not, and after a failure. */
function More({ onSeen }: { onSeen: () => Promise<void> }) {
  const ref = useRef<HTMLButtonElement>(null);
  const isBusy = useSignal(false);
  const load = async () => {
    if (isBusy.value) return;
    isBusy.value = true;
    await onSeen();
    isBusy.value = false;
  };
  useEffect(() => {
    const eye = new IntersectionObserver(([entry]) => entry?.isIntersecting && void load(), {
      rootMargin: "1200px",
    });
    if (ref.current) eye.observe(ref.current);
    return () => eye.disconnect();
  }, []);
  return (
    <button ref={ref} type="button" class="quiet more" disabled={isBusy.value} onClick={() => void load()}>
      {isBusy.value ? t.history.loading : t.history.more}
    </button>
  );
}
