// How far a batch is, for someone who looks elsewhere: in the tab's title and icon, and told at the end.
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { ApiError, get } from "./api";
import type { LiveBatch } from "./live";
import { go, linkTo } from "./route";
import * as session from "./session";
import { type Batch, isLive } from "./shapes";
import { t } from "./texts";
import { progress, status, title } from "./words";

const KEY = "refresher.tell";
const LOOK_MS = 15_000;

// --- title and icon ---------------------------------------------------------------------------------

const icon = document.querySelector<HTMLLinkElement>('link[rel="icon"]');
const usualIcon = icon?.href ?? "";

/** Show a batch's progress in the title and the icon, in a hidden tab too, where `live` rests. */
export function useTabProgress(live: LiveBatch): void {
  const batch = live.batch.value;
  const isMoving = batch !== null && isLive(batch);
  const percent = isMoving ? Math.floor(batch.progress.percent) : null;
  const name = batch
    ? percent === null
      ? t.told.ended(status(batch), title(batch))
      : t.told.live(percent, title(batch))
    : `${t.app.titles.batch} · ${t.app.name}`;
  useEffect(() => {
    document.title = name;
  }, [name]);
  useEffect(() => {
    if (icon) icon.href = percent === null ? usualIcon : ring(percent);
  }, [percent]);
  useEffect(
    () => () => {
      if (icon) icon.href = usualIcon;
    },
    [],
  );
  useEffect(() => {
    if (!isMoving) return;
    const timer = setInterval(() => document.hidden && void lookAt(batch.batch_id, live), LOOK_MS);
    return () => clearInterval(timer);
  }, [live, isMoving]);
  useEffect(() => {
    if (batch && !isMoving) tell(batch);
  }, [isMoving, batch?.batch_id]);
}

async function lookAt(id: string, live: LiveBatch): Promise<void> {
  const batch = await look(id).catch(() => null); // the next look may do
  if (batch) live.take(batch);
}

const look = (id: string): Promise<Batch> => get<Batch>(`batches/${id}`);

/** An icon with a ring that is closed at 100 %. */
function ring(percent: number): string {
  const circle = (more: string) => `<circle cx="16" cy="16" r="12" fill="none" stroke-width="7" ${more}/>`;
  const arc = `stroke="#4f46e5" pathLength="100" stroke-dasharray="${percent} 100" transform="rotate(-90 16 16)"`;
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">${circle('stroke="#c7c5ee"')}${circle(arc)}</svg>`;
  return `data:image/svg+xml,${encodeURIComponent(svg)}`;
}

// --- told at the end --------------------------------------------------------------------------------

/** The batches whose end is to be told. A reload keeps them. */
export const asked = signal<readonly string[]>(JSON.parse(sessionStorage.getItem(KEY) ?? "[]"));
let timer = 0;
watch();

function want(ids: readonly string[]): void {
  asked.value = ids;
  sessionStorage.setItem(KEY, JSON.stringify(ids));
  watch();
}

/** Tell the end of a batch, as a notification of the browser. Resolves to whether the browser lets it. */
export async function tellAtEnd(id: string): Promise<boolean> {
  if (!canNotify() || (await Notification.requestPermission()) !== "granted") return false;
  want([...asked.value, id]);
  return true;
}

/** Whether pages may show notifications at all: not in browsers of phones, where only making one says so. */
function canNotify(): boolean {
  try {
    if (Notification.permission === "default") new Notification(""); // shows nothing before the user agrees
    return true;
  } catch {
    return false;
  }
}

export const doNotTell = (id: string): void => want(asked.value.filter((other) => other !== id));

function watch(): void {
  clearTimeout(timer);
  if (asked.value.length) timer = window.setTimeout(() => void lookAtAll(), LOOK_MS);
}

async function lookAtAll(): Promise<void> {
  for (const id of session.token.value ? asked.value : [])
    try {
      const batch = await look(id);
      if (!isLive(batch)) tell(batch);
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) doNotTell(id);
    }
  watch();
}

function tell(batch: Batch): void {
  const { batch_id: id } = batch;
  if (!asked.peek().includes(id)) return;
  doNotTell(id);
  try {
    const body = `${status(batch)} · ${progress(batch)}`;
    const notification = new Notification(title(batch), { body, tag: id, icon: usualIcon, silent: true });
    notification.onclick = () => {
      focus();
      go(linkTo(id));
    };
  } catch {
    // a browser whose pages may not show them: the title says it too
  }
}
