import { type Signal, useSignal } from "@preact/signals";
import { useEffect, useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { address, get, inWords, post, remove } from "../api";
import { download } from "../components/Actions";
import { Bar } from "../components/Bar";
import { ask } from "../components/Confirm";
import { Icon } from "../components/Icon";
import { Notice } from "../components/Notice";
import { Pill } from "../components/Pill";
import { toast } from "../components/Toast";
import { useBroken } from "../components/useBroken";
import { useNow } from "../components/useNow";
import { linkTo } from "../route";
import * as session from "../session";
import { type Batch, type BatchSummary, isLive, type Page, type Status } from "../shapes";
import { t } from "../texts";
import { bytes, money, namesOf, progress, STATUS, span, when } from "../words";

const PAGE = 30; // at first
const PAGE_MORE = 60;
const PAGE_MAX = 100; // that control sends
const AGAIN_MS = 5000;
const TYPING_MS = 250;
const TICKET_MS = 40 * 60 * 1000; // of an hour
const AT_ONCE = 4;
const CHOOSE = "choose-batches";

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
  const chosen = useSignal<ReadonlySet<string> | null>(null);
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
      <List items={items.value ?? []} chosen={chosen} />
      {cursor.value && <More key={cursor.value} onSeen={more} />}
      {chosen.value && items.value && items.value.length > 0 && (
        <Bulk items={items.value} chosen={chosen} onChange={change} />
      )}
    </div>
  );
}

/** A line, and how far below the upper edge of the window it is. */
interface Place {
  id: string;
  top: number;
}

const LOOKED_AT = 160; // px below the upper edge: there is a line, wherever the list is scrolled to

/** Scroll to where the screen was left, and tell at its end where that is: by a line, since heights are estimates. */
function useKeptPlace(before: Place | null, leave: (place: Place | null) => void) {
  const place = useRef(before);
  const leaving = useRef(leave);
  leaving.current = leave;
  useLayoutEffect(() => {
    const back = before && document.getElementById(before.id);
    if (back) scrollBy(0, back.getBoundingClientRect().top - before.top);
    const note = () => {
      const line = document.elementFromPoint(innerWidth / 2, LOOKED_AT)?.closest(".batch-item");
      place.current = line && scrollY > 0 ? { id: line.id, top: line.getBoundingClientRect().top } : null;
    };
    addEventListener("scroll", note, { passive: true });
    return () => {
      removeEventListener("scroll", note);
      leaving.current(place.current);
      scrollTo(0, 0);
    };
  }, []);
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

type Chosen = Signal<ReadonlySet<string> | null>;

function List({ items, chosen }: { items: BatchSummary[]; chosen: Chosen }) {
  const now = useNow(60_000);
  return (
    <ul class="batches">
      {items.map((batch) => (
        <Kept key={batch.batch_id} batch={batch} now={now} chosen={chosen} />
      ))}
    </ul>
  );
}

/** A line that is drawn anew only when something of it has changed: there may be thousands. */
function Kept({ batch, now, chosen }: { batch: BatchSummary; now: number; chosen: Chosen }) {
  const leftS = batch.expires_at ? (Date.parse(batch.expires_at) - now) / 1000 : 0;
  const keptFor = leftS > 0 && batch.status !== "expired" ? span(leftS) : null;
  const isChosen = chosen.value?.has(batch.batch_id) ?? null;
  return useMemo(
    () => <Line batch={batch} keptFor={keptFor} chosen={chosen} isChosen={isChosen} />,
    [batch, keptFor, isChosen],
  );
}

interface LineProps {
  batch: BatchSummary;
  keptFor: string | null;
  chosen: Chosen;
  isChosen: boolean | null; // null: nothing can be chosen now
}

const nameOf = ({ name, source_names, sources_count }: BatchSummary): string =>
  name ?? namesOf(source_names, sources_count);

function Line({ batch, keptFor, chosen, isChosen }: LineProps) {
  const name = nameOf(batch);
  return (
    <li id={batch.batch_id} class={`card batch-item ${batch.status}`}>
      {isChosen !== null && (
        <input
          type="checkbox"
          aria-label={t.history.chooseOne(name)}
          checked={isChosen}
          onChange={(event) => {
            const ids = new Set(chosen.value);
            if (event.currentTarget.checked) ids.add(batch.batch_id);
            else ids.delete(batch.batch_id);
            chosen.value = ids;
          }}
        />
      )}
      <a class="batch-line" href={linkTo(batch.batch_id)}>
        <Pictures batch={batch} />
        <span class="batch-what">
          <strong class="batch-name">{name}</strong>
          <span class="muted small">
            {when(batch.created_at)}
            {batch.shared && ` · ${t.history.shared}`}
          </span>
        </span>
        <span class="batch-progress small">
          <span class={isLive(batch) ? "" : "muted"}>{progress(batch)}</span>
          {isLive(batch) && <Bar percent={batch.progress.percent} label={t.history.progress(name)} />}
        </span>
        <span class="batch-cost small">
          <span>{money(batch.cost_usd)}</span>
          {batch.size_bytes > 0 && <span class="muted">{bytes(batch.size_bytes)}</span>}
        </span>
        <span class="batch-standing small">
          <Pill of={batch} />
          {keptFor && <span class="muted">{t.history.keptFor(keptFor)}</span>}
        </span>
      </a>
      <Download batch={batch} name={name} />
    </li>
  );
}

/** Pictures of up to three of its videos. */
function Pictures({ batch: { poster_output_ids: ids, ticket } }: { batch: BatchSummary }) {
  const broken = useBroken();
  const urls = ids.map((id) => address(`outputs/${id}/poster?${new URLSearchParams({ ticket })}`));
  const shown = urls.filter((url) => !broken.has(url));
  return (
    <span class={`batch-pictures of-${shown.length}`}>
      {shown.length === 0 && <Icon name="film" />}
      {shown.map((url) => (
        <img key={url} src={url} alt="" loading="lazy" onError={() => broken.add(url)} />
      ))}
    </span>
  );
}

function Download({ batch, name }: { batch: BatchSummary; name: string }) {
  const isBusy = useSignal(false);
  if (!batch.progress.ready || batch.status === "expired") return <span class="square" />;
  const go = async () => {
    isBusy.value = true;
    await download(batch).catch((error) => toast(inWords(error), "bad"));
    isBusy.value = false;
  };
  return (
    <button
      type="button"
      class="quiet square"
      aria-label={t.history.download(name)}
      title={t.history.downloadSize(bytes(batch.size_bytes))}
      disabled={isBusy.value}
      onClick={() => void go()}
    >
      <Icon name="download" />
    </button>
  );
}

const canRetry = (batch: BatchSummary): boolean =>
  !isLive(batch) && batch.status !== "expired" && batch.progress.ready < batch.progress.total;

/** What can be done with the chosen batches, in a bar at the lower edge. Each asks once for all of them. */
function Bulk({
  items,
  chosen,
  onChange,
}: {
  items: BatchSummary[];
  chosen: Chosen;
  onChange: (fresh: BatchSummary[], deleted: ReadonlySet<string>) => void;
}) {
  const some = items.filter(({ batch_id }) => chosen.value?.has(batch_id));
  const sets = { cancel: some.filter(isLive), retry: some.filter(canRetry), delete: some };
  const all = items.length === some.length;
  const act = (verb: keyof typeof sets) => async (stop: AbortSignal) => {
    const fresh: BatchSummary[] = [];
    const deleted = new Set<string>();
    const refused = await each(sets[verb], async ({ batch_id: id }) => {
      if (verb === "delete") {
        await remove(`batches/${id}`, { stop });
        deleted.add(id);
      } else {
        const {
          sources: _,
          attempts: __,
          ...summary
        } = await post<Batch>(`batches/${id}/${verb}`, undefined, { stop });
        fresh.push(summary);
      }
    });
    chosen.value = refused.length ? new Set(refused.map(({ item }) => item.batch_id)) : null;
    onChange(fresh, deleted);
    if (stop.aborted) return;
    setTimeout(() => document.getElementById(CHOOSE)?.focus()); // once the question is gone, and with it the bar
    const done = t.history.done[verb](sets[verb].length - refused.length);
    const [first] = refused;
    if (first) toast(t.history.refused(done, refused.length, inWords(first.error)), "bad");
    else toast(done);
  };
  const button = (verb: keyof typeof sets, kind = "") => {
    const of = sets[verb];
    const missing = of.reduce((sum, { progress: p }) => sum + p.total - p.ready, 0);
    const ready = of.reduce((sum, { progress: p }) => sum + p.ready, 0);
    return (
      <button
        type="button"
        class={kind}
        disabled={!of.length}
        onClick={() =>
          ask({
            title: t.history.ask[verb](of.length),
            text: t.history.askText[verb](verb === "delete" ? ready : missing),
            yes: t.history.yes[verb],
            no: t.history.no,
            act: act(verb),
          })
        }
      >
        {t.history.verbs[verb](of.length)}
      </button>
    );
  };
  return (
    <section class="bulk card" aria-label={t.history.bulk}>
      <div class="row small">
        <input
          type="checkbox"
          aria-label={t.history.chooseAll(items.length)}
          checked={all && some.length > 0}
          onChange={() => {
            chosen.value = new Set(all ? [] : items.map(({ batch_id }) => batch_id));
          }}
        />
        <strong role="status">{t.history.chosen(some.length, items.length)}</strong>
      </div>
      <div class="bulk-actions">
        {button("cancel")}
        {button("retry")}
        {button("delete", "danger")}
      </div>
    </section>
  );
}

/** Do it to each, a few at a time. Returns those that were refused. */
async function each<Item>(
  items: Item[],
  what: (item: Item) => Promise<unknown>,
): Promise<{ item: Item; error: unknown }[]> {
  const [left, refused] = [[...items], [] as { item: Item; error: unknown }[]];
  const work = async () => {
    for (let item = left.shift(); item !== undefined; item = left.shift()) {
      const one = item;
      await what(one).catch((error) => refused.push({ item: one, error }));
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return refused;
}
