// Which draft this tab has: its own, or that of a tab that is closed. Each lies in localStorage under its key.

const KEY = "refresher.draft"; // and what follows, of each tab another; without it: of an older page
const OWN = "refresher.draft.key"; // in sessionStorage, which a reload keeps
const RELOAD_MS = 1000; // so long a page that is being left may still hold its lock
const KEPT_MS = 20 * 3600 * 1000; // an unused source lives for 24 h

/** Return the key of the draft of this tab, which no other tab has. Too old drafts are removed. */
export async function claimDraft(): Promise<string> {
  const keys = Object.keys(localStorage).filter((key) => key.startsWith(KEY));
  const drafts = keys.map((key) => ({ key, ...facts(key) })).sort((a, b) => b.at - a.at);
  for (const { key, at } of drafts) if (at < Date.now() - KEPT_MS) localStorage.removeItem(key);
  const own = sessionStorage.getItem(OWN);
  const key = own && (await hold(own, RELOAD_MS)) ? own : ((await orphan(drafts)) ?? (await fresh()));
  sessionStorage.setItem(OWN, key);
  return key;
}

interface Facts {
  at: number; // ms, of its last change
  videos: number;
}

function facts(key: string): Facts {
  try {
    const { at, items } = JSON.parse(localStorage.getItem(key) ?? "");
    return { at, videos: items.length };
  } catch {
    return { at: 0, videos: 0 }; // of another version
  }
}

/** Return the key of the newest draft that has videos and no tab. */
async function orphan(drafts: (Facts & { key: string })[]): Promise<string | null> {
  if (!navigator.locks) return null;
  for (const { key, at, videos } of drafts)
    if (videos && at >= Date.now() - KEPT_MS && (await hold(key, 0))) return key;
  return null;
}

async function fresh(): Promise<string> {
  const key = `${KEY}.${Date.now().toString(36)}${Math.random().toString(36).slice(2)}`;
  await hold(key, 0);
  return key;
}

/** Hold a draft until this tab is gone. Resolves with false if another tab has it.
 * Without locks (over plain HTTP to another machine) each tab keeps its own and finds no other's. */
function hold(key: string, withinMs: number): Promise<boolean> {
  if (!navigator.locks) return Promise.resolve(true);
  return new Promise((resolve) => {
    const held = (lock: Lock | null) => {
      resolve(lock !== null);
      return lock && new Promise<void>(() => {});
    };
    const how = withinMs ? { signal: AbortSignal.timeout(withinMs) } : { ifAvailable: true };
    navigator.locks.request(key, how, held).catch(() => resolve(false));
  });
}
