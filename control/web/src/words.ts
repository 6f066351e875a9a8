// Numbers, states and problems as people say them.
import type { Attempt, Batch, BatchSummary, Output, Preset, Problem, Status } from "./shapes";
import { LOCALE, t } from "./texts";

const { words } = t;

/** A number with as many decimals as asked for, written as the user's language does. */
export const number = (value: number, digits = 0): string =>
  value.toLocaleString(LOCALE, { minimumFractionDigits: digits, maximumFractionDigits: digits });

export function bytes(count: number): string {
  const units = [words.bytes, "kB", "MB", "GB", "TB"];
  let value = count;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${number(value, unit && value < 99.5 ? 1 : 0)} ${units[unit]}`;
}

/** A video's length, as players show it. */
export function length(seconds: number): string {
  const whole = Math.round(seconds);
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (n: number) => String(n).padStart(2, "0");
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** A time to wait. */
export function span(seconds: number): string {
  if (seconds < 1) return words.seconds(1);
  if (seconds < 90) return words.seconds(Math.round(seconds));
  if (seconds < 90 * 60) return words.minutes(Math.round(seconds / 60));
  if (seconds < 36 * 3600) return words.hours(Math.round(seconds / 3600));
  return words.days(Math.round(seconds / 86_400));
}

const dollars = (usd: number, digits: number): string =>
  usd.toLocaleString(LOCALE, {
    style: "currency",
    currency: "USD",
    currencyDisplay: "narrowSymbol",
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  });

/** An amount as people say it: "under 1 ¢", "12 ¢", "$1.20". */
export function money(usd: number): string {
  const cents = Math.round(100 * usd);
  if (usd > 0 && usd < 0.01) return words.underACent;
  return cents > 0 && cents < 100 ? `${cents}\u00a0¢` : dollars(usd, 2);
}

/** An amount to the hundredth of a cent, where parts of a whole are compared. */
export const exactMoney = (usd: number): string => dollars(usd, usd > 0 && usd < 1 ? 4 : 2);

export const count = (n: number, one: string, many = `${one}s`): string =>
  `${number(n)} ${n === 1 ? one : many}`;

const WHEN = new Intl.DateTimeFormat(LOCALE, { dateStyle: "medium", timeStyle: "short" });
const CLOCK = new Intl.DateTimeFormat(LOCALE, { timeStyle: "medium" });
const DAY = new Intl.DateTimeFormat(LOCALE, { day: "numeric", month: "short", timeZone: "UTC" });

export const when = (at: string): string => WHEN.format(new Date(at));
export const clock = (at: string | number): string => CLOCK.format(new Date(at));
export const day = (date: string): string => DAY.format(new Date(`${date}T00:00:00Z`));

export const STATUS: Record<Status, string> = words.statuses;

export const status = (batch: { status: Status; partial: boolean }): string =>
  batch.status === "completed" && batch.partial ? words.partly : STATUS[batch.status];

export const PRESET: Record<Preset, string> = words.presets;

/** What control says of a problem, in the user's language; in control's words where there are no others. */
export function said(of: keyof typeof t.problems, { code, message }: Problem): string {
  const own = t.problems[of][code] ?? message;
  return own.endsWith(":") ? `${own} ${message}` : own;
}

export function attempt(of: Attempt): string {
  const state = t.machines.states[of.state] ?? of.state;
  const { reason, reason_text } = of;
  return reason ? `${state}: ${said("results", { code: reason, message: reason_text ?? "" })}` : state;
}

/** The effects that one could see, those that one sees first at the start. */
export function effects({ effects: of }: Output): string[] {
  const { effects: named } = words;
  const degrees = (rad: number) => (rad * 180) / Math.PI;
  const parts: (string | false)[] = [
    of.mirror === true && named.mirrored,
    changed(named.zoom, of.zoom, (zoom) => (zoom - 1) * 100),
    changed(named.turned, of.rotation_rad, degrees, "°", 2),
    changed(named.speed, of.speed, (speed) => (speed - 1) * 100),
    changed(named.brightness, of.brightness, (brightness) => brightness * 100),
    changed(named.contrast, of.contrast, (contrast) => (contrast - 1) * 100),
    changed(named.colour, of.saturation, (saturation) => (saturation - 1) * 100),
    of.noise ? `${named.noise} ${of.noise}` : false,
  ];
  return parts.filter((part) => part !== false);
}

/** One effect with its sign, or false when it changes nothing that one could see. */
function changed(
  name: string,
  value: number | boolean | undefined,
  shown: (value: number) => number,
  unit = "\u00a0%",
  digits = 1,
): string | false {
  if (typeof value !== "number") return false;
  const size = Math.abs(shown(value));
  return (
    Number(size.toFixed(digits)) !== 0 &&
    `${name} ${shown(value) < 0 ? "−" : "+"}${number(size, digits)}${unit}`
  );
}

export const outputLabel = (of: Pick<Output, "preset" | "variation">): string =>
  of.preset ? (PRESET[of.preset] ?? of.preset) : words.variation(of.variation);

export const fileName = (path: string): string => path.slice(path.lastIndexOf("/") + 1);

/** The name of a file in a list: of a long one the middle is left out, not the end. */
export function shortened(name: string): string {
  const letters = [...name];
  return letters.length > 36 ? `${letters.slice(0, 20).join("")}…${letters.slice(-15).join("")}` : name;
}

/** Some names as one line: the first two, or the first and how many more there are. */
export function namesOf(first: string[], all: number): string {
  const [one = "", other] = first;
  if (all === 2 && other !== undefined) return words.two(one, other);
  return all > 1 ? words.andMore(one, all - 1) : one;
}

/** What a batch is known by: its name, else its videos. */
export const title = (batch: Batch): string => batch.name ?? videosOf(batch);

export const videosOf = ({ sources }: Batch): string =>
  namesOf(
    sources.map(({ name }) => name),
    sources.length,
  );

export function progress({ progress: p, status: s }: BatchSummary): string {
  const of = s === "expired" ? words.made : words.ready;
  const parts = [of(number(p.ready), number(p.total))];
  if (p.failed) parts.push(words.failed(p.failed));
  if (s === "running" && p.eta_s) parts.push(words.left(span(p.eta_s)));
  return parts.join(" · ");
}
