// What to make of the videos. It is kept with the draft, and remembered for the next one.
import { computed, effect, signal } from "@preact/signals";
import type { Batch, FrameRate, Order, Preset, Quality, QuotePoint } from "./shapes";
import { t } from "./texts";

export const VARIATIONS = { least: 1, usual: 10, most: 100 };
export const STRENGTH = { least: 0.1, most: 1 };
export const NAME_CHARS_MAX = 100;
/** The effects beside the mirror, which has a switch of its own. */
export const EFFECTS = [
  "rotation",
  "zoom",
  "speed",
  "brightness",
  "contrast",
  "saturation",
  "noise",
] as const;
export const PLACEHOLDERS = ["source", "n", "tag", "seed", "width", "height", "date"];

const KEY = "refresher.choices";
const DEADLINE_S_MAX = 1e9;

export type Effect = (typeof EFFECTS)[number];

export interface Choices {
  preset: Preset | null; // null: variations
  variations: number;
  mirrors: boolean;
  without: Effect[];
  strength: number;
  quality: Quality;
  frameRate: FrameRate;
  // As typed; empty is none.
  name: string;
  machines: string;
  budget: string; // USD
  deadline: string; // minutes
  webhook: string;
  template: string;
  seed: string;
}

const USUAL: Choices = {
  preset: null,
  variations: VARIATIONS.usual,
  mirrors: false, // text reads backwards in a mirror
  without: [],
  strength: STRENGTH.most,
  quality: "standard",
  frameRate: "29.97",
  name: "",
  machines: "",
  budget: "",
  deadline: "",
  webhook: "",
  template: "",
  seed: "",
};
/** What belongs to one batch only. */
const OWN = { name: USUAL.name, seed: USUAL.seed };

export const choices = signal<Choices>(remembered());

export const inRange = (variations: number): number =>
  Math.max(VARIATIONS.least, Math.min(VARIATIONS.most, Math.round(variations)));

export function choose(change: Partial<Choices>): void {
  choices.value = { ...choices.value, ...change };
}

/** The next batch has the same settings, and a name and a seed of its own. */
export const forNext = (): void => choose(OWN);

/** Choose what was chosen for a batch. Its seed is left out: the same again are other variations. */
export function chooseLike(batch: Batch): void {
  const { name, name_template, preset, variations, without, strength, quality, frame_rate } = batch;
  choose({ ...OWN, preset, name: name ?? "", template: name_template ?? "" });
  if (preset) return; // it has no other choices: those for variations stay
  choose({
    variations,
    mirrors: !without.includes("mirror"),
    without: EFFECTS.filter((effect) => without.includes(effect)),
    strength,
    quality,
    frameRate: frame_rate,
  });
}

// --- what the fields say ----------------------------------------------------------------------------

export type Objections = Partial<Record<keyof Choices, string>>;

/** Why a field cannot be used, by its name. */
export const objections = computed<Objections>(() => objectionsTo(choices.value));

export function objectionsTo(of: Choices): Objections {
  const say = t.choices.objections;
  const found: Objections = {};
  if (of.name.length > NAME_CHARS_MAX) found.name = say.name(NAME_CHARS_MAX);
  if (!of.preset && !of.mirrors && of.without.length === EFFECTS.length) found.without = say.without;
  if (of.machines && !isWhole(of.machines, 1, Number.MAX_SAFE_INTEGER)) found.machines = say.machines;
  if (of.budget && !(amount(of.budget) > 0)) found.budget = say.budget;
  if (of.deadline && !(amount(of.deadline) > 0 && 60 * amount(of.deadline) <= DEADLINE_S_MAX))
    found.deadline = say.deadline;
  if (of.webhook && !webAddress(of.webhook)) found.webhook = say.webhook;
  if (of.seed && !isWhole(of.seed, 0, Number.MAX_SAFE_INTEGER)) found.seed = say.seed;
  const no = of.template && templateObjection(of);
  if (no) found.template = no;
  return found;
}

function templateObjection({ template, preset, variations }: Choices): string | null {
  const say = t.choices.objections.template;
  const used = [...template.matchAll(/\{([^{}]*)\}/g)].map(([, name = ""]) => name);
  const unknown = used.find((name) => !PLACEHOLDERS.includes(name));
  if (/[/\\]/.test(template)) return say.slash;
  if (unknown !== undefined) return say.unknown(`{${unknown}}`);
  if (/[{}]/.test(template.replace(/\{[^{}]*\}/g, ""))) return say.braces;
  const isNumbered = used.includes("n") || used.includes("tag");
  if (preset) return isNumbered ? say.preset : null;
  return variations > 1 && !isNumbered ? say.same : null;
}

/** A number as people type it, with a point or a comma; else NaN. */
export const amount = (text: string): number =>
  /^\d+([.,]\d*)?$/.test(text.trim()) ? Number(text.trim().replace(",", ".")) : Number.NaN;

const isWhole = (text: string, least: number, most: number): boolean =>
  Number.isInteger(amount(text)) && amount(text) >= least && amount(text) <= most;

export function webAddress(text: string): URL | null {
  const url = URL.canParse(text) ? new URL(text) : null;
  return url && /^https?:$/.test(url.protocol) ? url : null;
}

// --- what is ordered --------------------------------------------------------------------------------

export type Wish = Omit<Order, "sources">;

/** What is asked of the API beside the videos; null while a field cannot be used. */
export const wish = computed<Wish | null>(() =>
  Object.keys(objections.value).length ? null : wishOf(choices.value),
);

export function wishOf(of: Choices): Wish {
  const made: Wish = of.preset
    ? { preset: of.preset }
    : {
        variations: of.variations,
        without: [...of.without, ...(of.mirrors ? [] : ["mirror"])],
        strength: of.strength,
        quality: of.quality,
        frame_rate: of.frameRate,
      };
  if (of.name.trim()) made.name = of.name.trim();
  if (of.template) made.name_template = of.template;
  if (of.machines) made.max_machines = amount(of.machines);
  if (of.budget) made.max_cost_usd = amount(of.budget);
  if (of.deadline) made.deadline_s = 60 * amount(of.deadline);
  if (of.webhook) made.webhook_url = of.webhook;
  if (of.seed) made.seed = amount(of.seed);
  return made;
}

/** A point of a quote's curve that was chosen, and the order that the curve is of: it is void for another. */
export const pace = signal<{ point: QuotePoint; order: string } | null>(null);

/**
 * The order at the chosen pace. The number of machines alone would not do: the API takes no plan that costs
 * much more than the cheapest one, unless a deadline asks for it.
 */
export function atPace(order: Order): Order {
  const chosen = pace.value;
  if (chosen?.order !== JSON.stringify(order)) return order;
  const { machines, makespan_s } = chosen.point;
  return { ...order, max_machines: machines, deadline_s: makespan_s + 0.1 }; // quotes are rounded
}

// --- over a reload, and for the next draft ----------------------------------------------------------

effect(() => {
  const of = choices.value;
  try {
    sessionStorage.setItem(KEY, JSON.stringify(of)); // of this tab's draft
    localStorage.setItem(KEY, JSON.stringify({ ...of, ...OWN })); // for the next one
  } catch {
    // no room: then they are of this page only
  }
});

function remembered(): Choices {
  try {
    const kept = sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY) ?? "{}";
    return { ...USUAL, ...JSON.parse(kept) };
  } catch {
    return USUAL;
  }
}
