// What is ordered of a draft: one batch, or several where its videos differ in number, or are too many for one.
import type { Wish } from "./choices";
import type { Order, Quote } from "./shapes";
import type { Item } from "./upload/item";

export const SOURCES_MAX = 100; // of a batch

export interface Part {
  order: Order;
  items: Item[];
}

/** Return the batches to make of videos that are ready, in the order of the videos. */
export function parts(ready: readonly Item[], wish: Wish): Part[] {
  const groups = new Map<number | undefined, Item[]>();
  for (const item of ready) {
    const each = wish.preset ? undefined : (item.variations.value ?? wish.variations);
    groups.set(each, [...(groups.get(each) ?? []), item]);
  }
  return [...groups].flatMap(([each, items]) =>
    Array.from({ length: Math.ceil(items.length / SOURCES_MAX) }, (_, index) => {
      const some = items.slice(index * SOURCES_MAX, (index + 1) * SOURCES_MAX);
      const sources = some.flatMap((item) => item.ref ?? []);
      return { items: some, order: { sources, ...wish, ...(each ? { variations: each } : {}) } };
    }),
  );
}

/** The quote of several batches, as if one began when the one before it has ended: at worst it is so. */
export function inAll(quotes: Quote[]): Quote | null {
  const [first, ...rest] = quotes;
  if (!first || !rest.length) return first ?? null;
  const sum = (of: (quote: Quote) => number) => quotes.reduce((total, quote) => total + of(quote), 0);
  const isKnown = quotes.every(({ cost_low_usd }) => cost_low_usd !== null);
  return {
    machines: Math.max(...quotes.map(({ machines }) => machines)),
    makespan_s: sum(({ makespan_s }) => makespan_s),
    cost_usd: sum(({ cost_usd }) => cost_usd),
    cost_low_usd: isKnown ? sum(({ cost_low_usd }) => cost_low_usd ?? 0) : null,
    cost_high_usd: isKnown ? sum(({ cost_high_usd }) => cost_high_usd ?? 0) : null,
    curve: [],
    estimated: quotes.some(({ estimated }) => estimated),
    fits: quotes.every(({ fits }) => fits),
    retention_hours: first.retention_hours,
  };
}

/** Divide a budget over batches by what each is thought to cost. */
export function shares(budgetUsd: number, quotes: Quote[]): number[] {
  const total = inAll(quotes)?.cost_usd ?? 0;
  return quotes.map(({ cost_usd }) =>
    total > 0 ? (budgetUsd * cost_usd) / total : budgetUsd / quotes.length,
  );
}
