// What becomes of a call that did not succeed, as data: the one place that decides it. PURE.
// api.ts does it for the calls to control, upload/parts.ts for the parts that go to the bucket.

/** `status` 0: no answer, or not a whole one. */
export interface Failure {
  readonly status: number;
  readonly code: string;
  readonly retryAfterS: number | null;
}

export interface Call {
  readonly method: string;
  readonly path: string;
  readonly hasKey: boolean; // an Idempotency-Key
  readonly wasOnline: boolean; // false: nothing was sent
  readonly isMine: boolean; // of the session, which a sign-in renews; not of a link or a password
  readonly isRepeat: boolean; // an earlier try was sent, and may have been done
  readonly tries: number; // in a row, with this one; a wake begins a new row
}

/** Why a call waits. The texts have a sentence for each. */
export type Why = "away" | "broken" | "busy" | "full" | "storage";

export type Fate =
  | { readonly is: "again"; readonly inS: number; readonly why: Why; readonly needsUrl?: boolean }
  | { readonly is: "sign in" }
  | { readonly is: "done" } // the lost answer was the good one
  | { readonly is: "over" };

const PAUSE_S = { first: 0.5, most: 30 };
const BROKEN_TRIES = 3; // of what fails the same way each time
const UNSIGNED_TRIES = 5; // of a part whose fresh URL is refused too
const NEW_URL_EVERY = 4; // tries of a part: the bucket may have another address now
const BUSY = [408, 425, 429, 502, 503, 504];

/** The last words of the paths that may be sent twice: after a lost answer the second has the same effect. */
const TWICE = ["auth", "cancel", "complete", "download-link", "quote", "revoke", "share-link", "uploads"];

/** How a repeat of a call is refused after a lost answer that was good. */
const ENDED_BY: Record<string, number> = { DELETE: 404, "auth/revoke": 401 };

/** The fate of a call to control. `chance` is between 0 and 1, and spreads calls that failed together. */
export function fateOf(call: Call, failure: Failure, chance = Math.random()): Fate {
  const { status, code, retryAfterS } = failure;
  const again = (why: Why): Fate => ({ is: "again", why, inS: pauseS(call.tries, retryAfterS, chance) });
  if (code === "too_many_tries") return { is: "over" }; // of a password: the next try is a person's
  if (call.isRepeat && status === ENDED_BY[call.path === "auth/revoke" ? call.path : call.method])
    return { is: "done" };
  if (status === 401) return { is: call.isMine ? "sign in" : "over" };
  if (status === 409 && retryAfterS !== null) return again("busy"); // its first try is still being answered
  if (status === 429) return again("full");
  if (status === 503 && retryAfterS !== null) return again("busy"); // nothing was done
  if (status === 0 && !call.wasOnline) return again("away");
  if (!isRepeatable(call)) return { is: "over" };
  if (status === 0) return again("away");
  if (BUSY.includes(status)) return again("busy");
  if (status === 500 && call.tries < BROKEN_TRIES) return again("broken");
  return { is: "over" };
}

/** The fate of a part that was PUT to the bucket. `needsUrl`: with a fresh URL. */
export function fateOfPart(failure: Failure, tries: number, chance = Math.random()): Fate {
  const { status } = failure;
  const again = (needsUrl: boolean): Fate => {
    return { is: "again", why: "storage", inS: pauseS(tries, failure.retryAfterS, chance), needsUrl };
  };
  if (status === 0) return again(tries % NEW_URL_EVERY === 0);
  if (status === 403 && tries < UNSIGNED_TRIES) return again(true); // its signature has expired
  return status === 500 || BUSY.includes(status) ? again(false) : { is: "over" };
}

/** How long until the next try: twice as long each time, and never sooner than was asked for. */
export function pauseS(tries: number, retryAfterS: number | null = null, chance = Math.random()): number {
  const own = Math.min(PAUSE_S.most, PAUSE_S.first * 2 ** (tries - 1)) * (0.5 + chance / 2);
  return Math.max(own, (retryAfterS ?? 0) * (1 + chance / 4));
}

function isRepeatable({ method, path, hasKey }: Call): boolean {
  return method !== "POST" || hasKey || TWICE.includes(path.slice(path.lastIndexOf("/") + 1));
}
