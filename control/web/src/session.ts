// Who is signed in. The token outlives a reload; when it ends, the page stays as it is behind the sign-in.
import { signal } from "@preact/signals";

const KEY = "refresher.token";

export const token = signal<string | null>(stored());
/** Whether there was a session that ended by itself: what is open waits for the next sign-in. */
export const hasEnded = signal(false);

let waiting: (() => void)[] = [];
let life = new AbortController();

export function begin(fresh: string, expiresAt: string): void {
  localStorage.setItem(KEY, JSON.stringify({ token: fresh, expiresAt }));
  take(fresh);
}

function take(fresh: string): void {
  token.value = fresh;
  hasEnded.value = false;
  for (const go of waiting.splice(0)) go();
}

/** The API no longer takes `used`. Resolves after the next sign-in. */
export function renewed(used: string | null, stop: AbortSignal): Promise<void> {
  if (token.value !== used) return Promise.resolve(); // someone has signed in meanwhile
  hasEnded.value = true;
  return new Promise((resolve, reject) => {
    waiting.push(resolve);
    stop.addEventListener("abort", () => reject(stop.reason), { once: true });
  });
}

/** Aborted, with `SIGNED_OUT`, when the user signs out: what was under way in the session ends with it. */
export const lifetime = (): AbortSignal => life.signal;
export const SIGNED_OUT = new DOMException("signed out", "AbortError");

export function end(): void {
  localStorage.removeItem(KEY);
  waiting = [];
  hasEnded.value = false;
  token.value = null;
  life.abort(SIGNED_OUT);
  life = new AbortController();
}

function stored(): string | null {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY) ?? "null");
    return kept && Date.parse(kept.expiresAt) > Date.now() ? kept.token : null;
  } catch {
    return null;
  }
}

// Another tab has signed in or out.
addEventListener("storage", (event) => {
  if (event.key !== KEY) return;
  const fresh = stored();
  if (!fresh) end();
  else if (fresh !== token.value) take(fresh);
});
