// Every call to control. What goes wrong is an ApiError whose message a person can act on.
import * as session from "./session";
import type { Problem } from "./shapes";

const BASE = (document.querySelector<HTMLMetaElement>('meta[name="refresher-api"]')?.content ?? "").replace(
  /\/+$/,
  "",
);

const BUSY_TRIES = 10; // a 503 that says when to come again may be repeated

/** `status` 0: nothing answered. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly retryAfterS: number | null = null,
  ) {
    super(message);
  }

  /** Whether the same call may do later. */
  get isPassing(): boolean {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

export const AWAY = "Video Refresher does not answer. Check your connection; the page tries again by itself.";

/** The address of an API path, for `<img>`, `<video>`, links and streams. */
export const address = (path: string): string => `${BASE}/api/${path}`;

export const get = <Body>(path: string): Promise<Body> => call("GET", path);
export const post = <Body>(path: string, body?: unknown, headers?: Record<string, string>): Promise<Body> =>
  call("POST", path, body, headers);
export const remove = (path: string): Promise<void> => call("DELETE", path);

/** Between half and one and a half times `seconds`, so that many do not come again together. */
const pause = (seconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, seconds * 1000 * (0.5 + Math.random())));

async function call<Body>(
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Body> {
  for (let tries = 1; ; tries++) {
    const used = session.token.value;
    const answer = await send(
      method,
      path,
      body,
      used ? { ...headers, Authorization: `Bearer ${used}` } : headers,
    );
    const pauseS = answer.status === 503 ? Number(answer.headers.get("Retry-After")) : 0;
    if (pauseS && tries < BUSY_TRIES) await pause(pauseS);
    else if (answer.status !== 401) return read<Body>(answer);
    else await session.renewed(used);
  }
}

/** Exchange the password for a session. Throws ApiError: 401 wrong, 429 too many tries, 0 nobody there. */
export async function signIn(password: string): Promise<void> {
  const answer = await send("POST", "auth", { password }, {});
  const { token, expires_at } = await read<{ token: string; expires_at: string }>(answer);
  session.begin(token, expires_at);
}

async function send(
  method: string,
  path: string,
  body: unknown,
  headers: Record<string, string>,
): Promise<Response> {
  const init: RequestInit = { method, headers, cache: "no-store", referrerPolicy: "no-referrer" };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers = { ...headers, "Content-Type": "application/json" };
  }
  try {
    return await fetch(address(path), init);
  } catch {
    throw new ApiError(0, "away", AWAY);
  }
}

async function read<Body>(answer: Response): Promise<Body> {
  if (answer.status === 204) return undefined as Body;
  const body = await answer.json().catch(() => null);
  if (answer.ok) return body as Body;
  const problem: Problem | undefined = body?.error;
  throw new ApiError(
    answer.status,
    problem?.code ?? "unknown",
    problem?.message ?? (answer.status >= 500 ? AWAY : `The answer was ${answer.status}, without a reason.`),
    Number(answer.headers.get("Retry-After")) || null,
  );
}

/** Words for anything that was thrown. */
export const inWords = (error: unknown): string =>
  error instanceof Error ? error.message : "Something went wrong.";
