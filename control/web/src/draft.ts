// The batch that is being made: its videos, what is wanted of them, its price. It outlives a reload.
import { batch as atOnce, computed, effect, signal, untracked } from "@preact/signals";
import * as api from "./api";
import { ApiError, inWords } from "./api";
import { atPace, choices, chooseLike, forNext, webAddress, wish } from "./choices";
import { ask } from "./components/Confirm";
import { go, linkTo } from "./route";
import * as session from "./session";
import type { Batch, Order, Quote } from "./shapes";
import { claimDraft } from "./tab";
import { t } from "./texts";
import { Item, type Kept, type Phase } from "./upload/item";

const KEY = await claimDraft();
const QUOTE_AFTER_MS = 250; // while someone types

export const items = signal<Item[]>([]);

export const pending = computed(() => items.value.filter((item) => item.isPending.value));
export const ready = computed(() => items.value.filter((item) => item.phase.value === "ready"));
/** What someone has to do something about. */
export const stuck = computed(() =>
  items.value.filter((item) => ["paused", "fileless", "failed"].includes(item.phase.value)),
);
/** What can never be made: a batch starts without it, as the count and the price say. */
export const refused = computed(() => items.value.filter((item) => item.phase.value === "refused"));
export const outputsCount = computed(
  () => (items.value.length - refused.value.length) * (choices.value.preset ? 1 : choices.value.variations),
);
export const sentBytes = computed(() => items.value.reduce((sum, item) => sum + item.sent.value, 0));
export const totalBytes = computed(() => items.value.reduce((sum, item) => sum + item.size, 0));

/** What is ordered, at no chosen pace. */
export const plainOrder = computed<Order | null>(() => {
  const sources = ready.value.flatMap((item) => item.ref ?? []);
  return sources.length && wish.value ? { sources, ...wish.value } : null;
});
const order = computed<Order | null>(() => plainOrder.value && atPace(plainOrder.value));

// --- videos -----------------------------------------------------------------------------------------

/** Take files: those that a reload has lost go on where they were, and one that is there is not taken twice. */
export function add(files: Iterable<File>): void {
  atOnce(() => {
    for (const file of files) {
      const known = items.value.find((item) => item.isOf(file));
      if (known?.phase.value === "fileless") void known.take(file);
      if (!known) items.value = [...items.value, Item.ofFile(file)];
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
export const quoteProblem = signal<string | null>(null);

effect(() => {
  const [body, plain] = [order.value, plainOrder.value];
  if (!body || !plain || !session.token.value) {
    quote.value = null;
    quoteProblem.value = null;
    return;
  }
  const stale = new AbortController();
  const fail = (error: unknown) => {
    if (!stale.signal.aborted) [quote.value, quoteProblem.value] = [null, inWords(error)];
  };
  const timer = setTimeout(async () => {
    const onTrouble = (trouble: ApiError | null) => trouble && fail(trouble);
    try {
      const fresh = await quoted(plain, body, { stop: stale.signal, onTrouble });
      if (!stale.signal.aborted) [quote.value, quoteProblem.value] = [fresh, null];
    } catch (error) {
      fail(error);
    }
  }, QUOTE_AFTER_MS);
  return () => {
    clearTimeout(timer);
    stale.abort();
  };
});

/** The quote of an order, with the curve of the same order at no chosen pace. */
async function quoted(plain: Order, atItsPace: Order, options: api.Options): Promise<Quote> {
  const ask = (order: Order) => api.post<Quote>("quote", order, options);
  if (atItsPace === plain) return ask(plain);
  const [exact, { curve }] = await Promise.all([ask(atItsPace), ask(plain)]);
  return { ...exact, curve };
}

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
  if (stuck.value.length) submitProblem.value = t.draft.stuck(are("paused"), are("fileless"), are("failed"));
  else untracked(() => void submit());
});

const are = (phase: Phase): number => stuck.value.filter((item) => item.phase.value === phase).length;

/** The key of the last try, so that a lost answer never makes a second batch. */
let tried: { body: string; key: string } | null = null;

async function submit(): Promise<void> {
  if (!order.value || isSubmitting.peek()) return;
  isSubmitting.value = true;
  submitProblem.value = null;
  submitting = new AbortController();
  const stop = submitting.signal;
  const submitted = new Set(items.value);
  try {
    const batch = await place(order.value, {
      stop,
      onTrouble: (trouble) => {
        submitTrouble.value = trouble && inWords(trouble);
      },
    });
    clear(submitted);
    go(linkTo(batch.batch_id));
  } catch (error) {
    const isGone = error instanceof ApiError && (error.status === 404 || error.status === 410);
    if (!(error instanceof DOMException))
      submitProblem.value = isGone ? `${inWords(error)} ${t.draft.dropAgain}` : inWords(error);
  } finally {
    isSubmitting.value = false;
    submitTrouble.value = null;
  }
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

/** Begin anew. What was added meanwhile stays. */
function clear(submitted: Set<Item>): void {
  items.value = items.value.filter((item) => !submitted.has(item));
  forNext();
}

// --- over a reload ----------------------------------------------------------------------------------

interface KeptDraft {
  at: number;
  items: Kept[];
}

restore();
effect(keep);
addEventListener("beforeunload", (event) => {
  if (pending.peek().length) event.preventDefault(); // the browser asks
});

function keep(): void {
  const kept: KeptDraft = {
    at: Date.now(),
    items: items.value.filter((item) => item.phase.value !== "refused").map((item) => item.kept()),
  };
  try {
    localStorage.setItem(KEY, JSON.stringify(kept));
  } catch {
    localStorage.removeItem(KEY); // no room: then a reload starts anew
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
