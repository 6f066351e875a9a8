// Numbers and states as people say them. The API itself sends the text of each reason and error.
import type { Attempt, Batch, BatchSummary, Output, Preset, Status } from "./shapes";
import { LOCALE, t } from "./texts";

export function bytes(count: number): string {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let value = count;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit && value < 99.5 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
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
  if (seconds < 1) return "1 s";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min`;
  if (seconds < 36 * 3600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} days`;
}

const DOLLARS = new Intl.NumberFormat(LOCALE, {
  style: "currency",
  currency: "USD",
  currencyDisplay: "narrowSymbol",
});

/** An amount as people say it: "under 1 ¢", "12 ¢", "$1.20". */
export function money(usd: number): string {
  if (usd > 0 && usd < 0.01) return t.words.underOneCent;
  const cents = Math.round(100 * usd);
  return cents > 0 && cents < 100 ? `${cents}\u00a0¢` : DOLLARS.format(usd);
}

export const count = (n: number, one: string, many = `${one}s`): string =>
  `${n.toLocaleString(LOCALE)} ${n === 1 ? one : many}`;

const WHEN = new Intl.DateTimeFormat(LOCALE, { dateStyle: "medium", timeStyle: "short" });
const CLOCK = new Intl.DateTimeFormat(LOCALE, { timeStyle: "medium" });
const DAY = new Intl.DateTimeFormat(LOCALE, { day: "numeric", month: "short", timeZone: "UTC" });

export const when = (at: string): string => WHEN.format(new Date(at));
export const clock = (at: string | number): string => CLOCK.format(new Date(at));
export const day = (date: string): string => DAY.format(new Date(`${date}T00:00:00Z`));

export const STATUS: Record<Status, string> = {
  queued: "Waiting",
  launching: "Starting",
  running: "Rendering",
  completed: "Done",
  failed: "Failed",
  cancelled: "Cancelled",
  expired: "Expired",
};

export const status = (batch: BatchSummary): string =>
  batch.status === "completed" && batch.partial ? "Partly done" : STATUS[batch.status];

export const PRESET: Record<Preset, string> = {
  "web-optimized": "Web-optimized",
  hls: "HLS stream",
  copy: "Plain copy",
};

const ATTEMPT: Record<string, string> = {
  launching: "asking for a machine",
  booting: "machine starts",
  running: "rendering",
  succeeded: "done",
  failed: "failed",
  lost: "lost",
  cancelled: "cancelled",
};

export function attempt(of: Attempt): string {
  const state = ATTEMPT[of.state] ?? of.state;
  return of.reason_text ? `${state}: ${of.reason_text}` : state;
}

/** The effects, those that one sees first. */
export function effects({ effects: of }: Output, most = 8): string {
  const degrees = (rad: number) => (rad * 180) / Math.PI;
  const parts = [
    of.mirror === true && "mirrored",
    changed("zoom", of.zoom, (zoom) => (zoom - 1) * 100),
    changed("turned", of.rotation_rad, degrees, "°", 2),
    changed("speed", of.speed, (speed) => (speed - 1) * 100),
    changed("brightness", of.brightness, (brightness) => brightness * 100),
    changed("contrast", of.contrast, (contrast) => (contrast - 1) * 100),
    changed("colour", of.saturation, (saturation) => (saturation - 1) * 100),
    of.noise ? `noise ${of.noise}` : false,
  ];
  return parts.filter(Boolean).slice(0, most).join(" · ");
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
  const text = Math.abs(shown(value)).toFixed(digits);
  return Number(text) !== 0 && `${name} ${shown(value) < 0 ? "−" : "+"}${text}${unit}`;
}

export const outputLabel = (of: Output): string =>
  of.preset ? (PRESET[of.preset] ?? of.preset) : `Variation ${of.variation}`;

export const fileName = (path: string): string => path.slice(path.lastIndexOf("/") + 1);

export function title(batch: Batch): string {
  const names = batch.sources.map((source) => source.name);
  if (names.length <= 2) return names.join(" and ");
  return `${names[0]} and ${names.length - 1} more`;
}

export function progress({ progress: p, status: s }: BatchSummary): string {
  const parts = [`${p.ready.toLocaleString(LOCALE)} of ${p.total.toLocaleString(LOCALE)} ready`];
  if (p.failed) parts.push(`${p.failed} failed`);
  if (s === "running" && p.eta_s) parts.push(`about ${span(p.eta_s)} left`);
  return parts.join(" · ");
}
