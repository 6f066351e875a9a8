// Who is signed in. The token outlives a reload; when it ends, the page stays as it is behind the sign-in.
import { signal } from "@preact/signals";

const KEY = "refresher.token";

export const token = signal<string | null>(stored());
/** Whether there was a session that ended by itself: what is open waits for the next sign-in. */
export const hasEnded = signal(false);

let waiting: (() => void)[] = [];

export function begin(fresh: string, expiresAt: string): void {
  token.value = fresh;
  hasEnded.value = false;
  localStorage.setItem(KEY, JSON.stringify({ token: fresh, expiresAt }));
  for (const go of waiting.splice(0)) go();
}

/** The API no longer takes `used`. Resolves after the next sign-in. */
export function renewed(used: string | null): Promise<void> {
  if (token.value !== used) return Promise.resolve(); // someone has signed in meanwhile
  hasEnded.value = true;
  return new Promise((resolve) => waiting.push(resolve));
}

export function end(): void {
  localStorage.removeItem(KEY);
  waiting = [];
  hasEnded.value = false;
  token.value = null;
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
  else if (fresh !== token.value) {
    token.value = fresh;
    hasEnded.value = false;
    for (const go of waiting.splice(0)) go();
  }
});
