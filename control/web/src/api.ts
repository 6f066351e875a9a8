// Every call to control. A call goes on by itself for as long as fate.ts says; what then is wrong is an
// ApiError whose message a person can act on.
import { signal } from "@preact/signals";
import { fateOf } from "./fate";
import * as session from "./session";
import type { Problem } from "./shapes";
import { t } from "./texts";
import { Patience, Tries } from "./waits";
import { said } from "./words";

const BASE = (document.querySelector<HTMLMetaElement>('meta[name="refresher-api"]')?.content ?? "").replace(
  /\/+$/,
  "",
);

const ANSWER_MS = 60_000; // so long nothing is heard of an answer, and it is no longer waited for
const AWAKE_MS = 60_000; // after an answer control does not sleep
const SLOW_MS = 1000;

/** `status` 0: nothing answered. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly retryAfterS: number | null = null,
    /** What control says itself, which may name an id. */
    readonly original = message,
  ) {
    super(message);
  }

  /** Whether the same call may do later. */
  get isPassing(): boolean {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

export interface Options {
  headers?: Record<string, string>;
  /** Of a share link, instead of the session's; none for the password itself. */
  token?: string | null;
  stop?: AbortSignal | undefined;
  /** Told why the call waits for its next try, and null when it goes on: it needs nobody. */
  onTrouble?: (trouble: ApiError | null) => unknown;
}

interface Request extends Options {
  method: string;
  path: string;
  body?: unknown;
}

/** Control has slept, it seems: its first answer takes long. */
export const isWaking = signal(false);

/** The address of an API path, for `<img>`, `<video>`, links and streams. */
export const address = (path: string): string => `${BASE}/api/${path}`;

const troubled = new Map<string, Promise<unknown>>(); // GETs that wait, so that whoever asks again waits too

export function get<Body>(path: string, options: Options = {}): Promise<Body> {
  if (Object.keys(options).length) return call<Body>({ method: "GET", path, ...options });
  const known = troubled.get(path) as Promise<Body> | undefined;
  if (known) return known;
  const onTrouble = (trouble: ApiError | null) => trouble && troubled.set(path, asked);
  const asked: Promise<Body> = call<Body>({ method: "GET", path, onTrouble }).finally(() =>
    troubled.delete(path),
  );
  return asked;
}

export const post = <Body>(path: string, body?: unknown, options: Options = {}): Promise<Body> =>
  call({ method: "POST", path, body, ...options });
export const remove = (path: string, options: Options = {}): Promise<void> =>
  call({ method: "DELETE", path, ...options });

/** Exchange the password for a session. Throws ApiError: 401 wrong, 429 too many tries. */
export async function signIn(password: string, options: Options): Promise<void> {
  type Session = { token: string; expires_at: string };
  const { token, expires_at } = await post<Session>("auth", { password }, { ...options, token: null });
  session.begin(token, expires_at);
}

/** Throws ApiError, or the reason of `stop` or of the session's end. */
async function call<Body>(request: Request): Promise<Body> {
  const hasKey = request.headers?.["Idempotency-Key"] !== undefined;
  const isMine = request.token === undefined;
  const ends = [isMine && session.lifetime(), request.stop].filter((end) => end instanceof AbortSignal);
  const stop = AbortSignal.any(ends);
  const tries = new Tries();
  let isRepeat = false;
  try {
    for (;;) {
      const used = isMine ? session.token.value : (request.token ?? null);
      const wasOnline = navigator.onLine;
      try {
        return await send<Body>(request, used, stop);
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        const fate = fateOf({ ...request, hasKey, isMine, isRepeat, tries: tries.count, wasOnline }, error);
        isRepeat ||= wasOnline;
        if (fate.is === "done") return undefined as Body;
        if (fate.is === "over")
          throw error.code === "away" ? new ApiError(error.status, "lost", t.api.lost) : error;
        if (fate.is === "sign in") await session.renewed(used, stop);
        else {
          request.onTrouble?.(error);
          await tries.pause(fate, stop);
        }
      }
    }
  } finally {
    tries.end();
    request.onTrouble?.(null);
  }
}

let answeredAt = 0; // ms

/** Send it once. Throws ApiError, or `stop`'s reason. */
async function send<Body>(
  { method, path, body, headers = {} }: Request,
  token: string | null,
  stop: AbortSignal,
): Promise<Body> {
  const patience = new Patience(ANSWER_MS, stop);
  const init: RequestInit = { method, cache: "no-store", referrerPolicy: "no-referrer" };
  init.signal = patience.signal;
  init.headers = { ...headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers = { ...init.headers, "Content-Type": "application/json" };
  }
  const slow = setTimeout(() => {
    isWaking.value = Date.now() - answeredAt > AWAKE_MS;
  }, SLOW_MS);
  try {
    const answer = await fetch(address(path), init);
    patience.heard();
    const text = await answer.text();
    answeredAt = Date.now();
    return read<Body>(answer, text);
  } catch (error) {
    if (error instanceof ApiError) throw error;
    stop.throwIfAborted();
    throw new ApiError(0, "away", t.api.away);
  } finally {
    clearTimeout(slow);
    isWaking.value = false;
    patience.end();
  }
}

/** Return the body of an answer. Throws ApiError for one that is no success, or no answer of control at all. */
function read<Body>(answer: Response, text: string): Body {
  if (answer.status === 204) return undefined as Body;
  const body = parsed(text);
  if (answer.ok && body !== undefined) return body as Body;
  const problem = (body as { error?: Problem } | undefined)?.error;
  const retryAfterS = Number(answer.headers.get("Retry-After")) || null;
  if (problem)
    throw new ApiError(answer.status, problem.code, said("api", problem), retryAfterS, problem.message);
  if (answer.ok) throw new ApiError(0, "away", t.api.away); // such as the sign-in page of a hotel's network
  if (answer.status >= 500) throw new ApiError(answer.status, "away", t.api.away, retryAfterS);
  throw new ApiError(answer.status, "unknown", t.api.unexplained(answer.status));
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** What a call in trouble waits for, in short: `Again` says why and until when. */
export const waitsFor = (trouble: ApiError | null): string | null =>
  trouble && (trouble.code === "storage" ? t.api.waitsForStorage : t.api.waits);

/** Words for anything that was thrown. */
export const inWords = (error: unknown): string => (error instanceof Error ? error.message : t.api.unknown);
