// The batch that is being made: its videos, what is wanted of them, its price. It outlives a reload.
import { batch as atOnce, computed, effect, signal, untracked } from "@preact/signals";
import * as api from "./api";
import { ApiError, inWords, waitsFor } from "./api";
import { atPace, choices, chooseLike, forNext, webAddress, wish } from "./choices";
import { ask } from "./components/Confirm";
import { inAll, type Part, parts, shares } from "./orders";
import { go, linkTo } from "./route";
import * as session from "./session";
import type { Batch, Order, Quote } from "./shapes";
import { claimDraft } from "./tab";
import { t } from "./texts";
import { Item, type Kept, type Phase } from "./upload/item";

const KEY = await claimDraft();
const QUOTE_AFTER_MS = 250; // while someone types
const KEEP_AFTER_MS = 200;

export const items = signal<Item[]>([]);

export const pending = computed(() => items.value.filter((item) => item.isPending.value));
export const ready = computed(() => items.value.filter((item) => item.phase.value === "ready"));
/** What someone has to do something about. */
export const stuck = computed(() =>
  items.value.filter((item) => ["paused", "fileless", "failed"].includes(item.phase.value)),
);
/** What can never be made: a batch starts without it, as the count and the price say. */
export const refused = computed(() => items.value.filter((item) => item.phase.value === "refused"));
export const outputsCount = computed(() => {
  const { preset, variations } = choices.value;
  const usable = items.value.filter((item) => item.phase.value !== "refused");
  return usable.reduce((sum, item) => sum + (preset ? 1 : (item.variations.value ?? variations)), 0);
});
export const sentBytes = computed(() => items.value.reduce((sum, item) => sum + item.sent.value, 0));
export const totalBytes = computed(() => items.value.reduce((sum, item) => sum + item.size, 0));

/** The batches that are ordered: one, where it can hold all. None while a field cannot be used. */
export const ordered = computed<Part[]>(() => (wish.value ? parts(ready.value, wish.value) : []));
/** The only order, at no chosen pace. */
export const plainOrder = computed<Order | null>(() => {
  const [only, another] = ordered.value;
  return only && !another ? only.order : null;
});

// --- videos -----------------------------------------------------------------------------------------

/** Take files: those that a reload has lost go on where they were, and one that is there is not taken twice. */
export function add(files: Iterable<File>): void {
  atOnce(() => {
    for (const file of files) {
      const known = items.value.find((item) => item.isOf(file));
      if (known?.phase.value === "fileless") void known.take(file);
      if (known?.phase.value === "refused") remove(known); // it may do now
      if (!known || known.phase.value === "refused") items.value = [...items.value, Item.ofFile(file)];
    }
  });
}

/** Take addresses, one per line, and return the lines that are none. */
export function addUrls(text: string): string[] {
  const lines = text.split(/\s+/).filter(Boolean);
  const bad = lines.filter((line) => !webAddress(line));
  for (const url of lines.flatMap((line) => webAddress(line) ?? []))
    if (!items.value.some((item) => item.url === url.href))
      items.value = [...items.value, new Item(nameIn(url), 0, 0, url.href)];
  return bad;
}

export function remove(...gone: Item[]): void {
  for (const item of gone) item.drop();
  items.value = items.value.filter((item) => !gone.includes(item));
}

/** Fill the draft with the videos and the choices of a batch. Nothing starts: its price is there first. */
export function refill(batch: Batch): void {
  const fill = async () => {
    atOnce(() => {
      isArmed.value = false;
      submitProblem.value = null;
      remove(...items.value);
      items.value = batch.sources.map(({ name, source_id }) => Item.ofSource(name, source_id));
      chooseLike(batch);
    });
    go("#/");
  };
  if (!items.value.length) void fill();
  else
    ask({
      title: t.draft.replace,
      text: t.draft.replaceText(items.value.length),
      yes: t.draft.replaceIt,
      act: fill,
    });
}

function nameIn(url: URL): string {
  const last = url.pathname.split("/").pop() ?? "";
  try {
    return decodeURIComponent(last) || url.hostname;
  } catch {
    return last;
  }
}

// --- price ------------------------------------------------------------------------------------------

export const quote = signal<Quote | null>(null);
/** Why there is none yet: it comes by itself. */
export const quoteTrouble = signal<string | null>(null);
/** Why there is none: someone has to change what is ordered. */
export const quoteRefusal = signal<string | null>(null);

function say(fresh: Quote | null, trouble: string | null = null, refusal: string | null = null): void {
  atOnce(() => {
    quote.value = fresh;
    quoteTrouble.value = trouble;
    quoteRefusal.value = refusal;
  });
}

effect(() => {
  const orders = ordered.value.map(({ order }) => order);
  const plain = plainOrder.value;
  const atItsPace = plain && atPace(plain);
  if (!orders.length || !session.token.value) return say(null);
  const stale = new AbortController();
  const options: api.Options = {
    stop: stale.signal,
    onTrouble: (trouble) => trouble && !stale.signal.aborted && say(null, inWords(trouble)),
  };
  const timer = setTimeout(async () => {
    try {
      const exact = inAll(await quotes(atItsPace ? [atItsPace] : orders, options));
      const [usual] = plain && atItsPace !== plain ? await quotes([plain], options) : [exact];
      const fresh = exact && usual && { ...exact, curve: usual.curve }; // the curve leads to any pace
      if (!stale.signal.aborted) say(fresh);
    } catch (error) {
      if (!stale.signal.aborted && !lost(error)) say(null, null, inWords(error));
    }
  }, QUOTE_AFTER_MS);
  return () => {
    clearTimeout(timer);
    stale.abort();
  };
});

/** Whether an order named a source that is gone. Its video is put aside, and the order is of the others. */
function lost(error: unknown): boolean {
  const named = (id: string | null) =>
    id !== null && error instanceof ApiError && error.original.includes(id);
  const gone = items.value.filter(({ sourceId }) => named(sourceId.value));
  atOnce(() => {
    for (const item of gone) item.lose();
  });
  return gone.length > 0;
}

const quotes = (orders: Order[], options: api.Options): Promise<Quote[]> =>
  Promise.all(orders.map((order) => api.post<Quote>("quote", order, options)));

// --- the one button ---------------------------------------------------------------------------------

/** Pressed while videos are still on their way: it starts by itself. */
export const isArmed = signal(false);
export const isSubmitting = signal(false);
export const submitProblem = signal<string | null>(null);
/** Why the submit waits for its next try; `stopSubmit` gives it up. */
export const submitTrouble = signal<string | null>(null);
let submitting = new AbortController();
export const stopSubmit = (): void => submitting.abort();

effect(() => {
  if (!isArmed.value || pending.value.length) return;
  isArmed.value = false;
  if (!wish.value) submitProblem.value = t.draft.field;
  else if (stuck.value.length)
    submitProblem.value = t.draft.stuck(are("paused"), are("fileless"), are("failed"));
  else untracked(() => void submit());
});

choices.subscribe(() => {
  submitProblem.value = null; // it was of other choices
});

const are = (phase: Phase): number => stuck.value.filter((item) => item.phase.value === phase).length;

/** The key of the last try, so that a lost answer never makes a second batch. */
let tried: { body: string; key: string } | null = null;
/** What is left of several batches that were begun, with their shares of the budget: the next try takes these. */
let left: { of: string; parts: Part[] } | null = null;
const asked = (all: Part[]): string => JSON.stringify(all.map(({ order }) => atPace(order)));

async function submit(): Promise<void> {
  if (!ordered.value.length || isSubmitting.peek()) return;
  isSubmitting.value = true;
  submitProblem.value = null;
  submitting = new AbortController();
  const stop = submitting.signal;
  const submitted = new Set(items.value);
  const made: Batch[] = [];
  let isLost = false; // an answer: the batch may be there
  const options: api.Options = {
    stop,
    onTrouble: (trouble) => {
      submitTrouble.value = waitsFor(trouble);
      isLost ||= trouble?.code === "away";
    },
  };
  try {
    const all = ordered.value;
    const begun = left?.of === asked(all) ? left.parts : await payable(all, options);
    for (const [index, { order, items: itsItems }] of begun.entries()) {
      isLost = false;
      left = { of: asked(all.slice(index)), parts: begun.slice(index) };
      made.push(await place(order, options));
      leave(new Set(itsItems)); // so that a next try is of the rest
    }
    left = null;
    leave(submitted);
    forNext();
    go(made.length === 1 && made[0] ? linkTo(made[0].batch_id) : "#/batches");
  } catch (error) {
    submitProblem.value =
      [made.length && t.draft.madeSome(made.length), refusal(error, isLost)].filter(Boolean).join(" ") ||
      null;
  } finally {
    isSubmitting.value = false;
    submitTrouble.value = null;
  }
}

/** Why it has not started; nothing if it was stopped, and certainly has not. */
function refusal(error: unknown, isLost: boolean): string {
  if (error instanceof DOMException) return isLost ? t.draft.perhapsMade : "";
  return lost(error) ? t.draft.lost : inWords(error);
}

/** What is submitted: one batch at its pace, or several that share the budget. */
async function payable(all: Part[], options: api.Options): Promise<Part[]> {
  const budget = wish.value?.max_cost_usd;
  if (all.length === 1) return all.map((part) => ({ ...part, order: atPace(part.order) }));
  if (budget === undefined) return all;
  const shared = shares(
    budget,
    await quotes(
      all.map(({ order }) => order),
      options,
    ),
  );
  return all.map((part, index) => ({
    ...part,
    order: { ...part.order, max_cost_usd: shared[index] ?? budget },
  }));
}

/** Submit an order. The same order again, after a lost answer, is the same batch. */
async function place(wanted: Order, options: api.Options): Promise<Batch> {
  const body = JSON.stringify(wanted);
  if (tried?.body !== body) tried = { body, key: randomKey() };
  const batch = await api.post<Batch>("batches", wanted, {
    ...options,
    headers: { "Idempotency-Key": tried.key },
  });
  tried = null;
  return batch;
}

function randomKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join("");
}

/** What was added meanwhile stays. */
function leave(submitted: Set<Item>): void {
  items.value = items.value.filter((item) => !submitted.has(item));
}

// --- over a reload ----------------------------------------------------------------------------------

interface KeptDraft {
  at: number;
  items: Kept[];
}

let write: (() => void) | null = null; // what is not kept yet

restore();
effect(keep);
addEventListener("pagehide", () => write?.());
addEventListener("beforeunload", (event) => {
  if (items.peek().some((item) => item.isUnsent.peek())) event.preventDefault(); // the browser asks
});

/** Write the draft soon, once for many changes: with pictures of hundreds of videos it is large. */
function keep(): void {
  const kept: KeptDraft = {
    at: Date.now(),
    items: items.value.filter((item) => item.phase.value !== "refused").map((item) => item.kept()),
  };
  if (!write) setTimeout(() => write?.(), KEEP_AFTER_MS);
  write = () => {
    write = null;
    const bare = { ...kept, items: kept.items.map((item) => ({ ...item, look: null })) };
    if (!isStored(kept) && !isStored(bare)) localStorage.removeItem(KEY); // then a reload starts anew
  };
}

/** Whether there was room. The pictures of many hundreds of videos may be too much. */
function isStored(kept: KeptDraft): boolean {
  try {
    localStorage.setItem(KEY, JSON.stringify(kept));
    return true;
  } catch {
    return false;
  }
}

function restore(): void {
  try {
    const kept: KeptDraft | null = JSON.parse(localStorage.getItem(KEY) ?? "null");
    if (!kept) return;
    items.value = kept.items.map((one) => new Item(one.name, one.size, one.modified, one.url, one));
  } catch {
    // of another version: a new start
  }
}
