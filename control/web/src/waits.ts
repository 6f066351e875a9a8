// The calls that wait for their next try, for all to see. The network, the user or the end of a sleep wakes them.
import { signal } from "@preact/signals";
import type { Why } from "./fate";

const TICK_MS = 10_000;
const LONG_S = 1;
const ASLEEP_MS = 90_000; // so late is no tick, hidden tabs included, unless the machine slept

export interface Wait {
  readonly at: number | null; // ms; null: it is being tried now
  readonly why: Why;
  readonly isLong: boolean; // worth a word: it goes on for more than a moment
  readonly now: () => void;
}

/** Of each call in trouble one, until it has succeeded or is over. */
export const waits = signal<readonly Wait[]>([]);

const listeners = new Set<() => void>();

/** Call `listener` at each wake from now on. Returns how to end that. */
export function onWake(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Have everything that waits go on now. */
export function wake(): void {
  for (const wait of waits.peek()) wait.now();
  for (const listener of listeners) listener();
}

addEventListener("online", wake);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) wake();
});
let tickedAt = Date.now();
setInterval(() => {
  const lateMs = Date.now() - tickedAt - TICK_MS;
  tickedAt = Date.now();
  if (lateMs > ASLEEP_MS) wake();
}, TICK_MS);

/** The tries of one call, and its wait for the next. */
export class Tries {
  count = 1; // in a row, since it was last woken
  private wait: Wait | null = null;

  /** Wait for the next try, at most as long as its fate says. Rejects with `stop`'s reason. */
  pause({ inS, why }: { inS: number; why: Why }, stop: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      stop.throwIfAborted();
      const go = (count: number) => {
        clearTimeout(timer);
        stop.removeEventListener("abort", cut);
        this.count = count;
        if (this.wait) this.become({ ...this.wait, at: null, now: () => {} });
        resolve();
      };
      const cut = () => {
        clearTimeout(timer);
        this.end();
        reject(stop.reason);
      };
      const timer = setTimeout(() => go(this.count + 1), 1000 * inS);
      stop.addEventListener("abort", cut, { once: true });
      const isLong = this.wait?.isLong || inS >= LONG_S;
      this.become({ at: Date.now() + 1000 * inS, why, isLong, now: () => go(1) });
    });
  }

  /** It goes well, or is over. */
  end(): void {
    if (this.wait) this.become(null);
  }

  private become(wait: Wait | null): void {
    const others = waits.peek().filter((other) => other !== this.wait);
    this.wait = wait;
    waits.value = wait ? [...others, wait] : others;
  }
}

/** Patience with something that should be heard of now and then. It ends by the clock on the wall: after a
 * sleep nothing that was under way is waited for. */
export class Patience {
  private readonly over = new AbortController();
  private heardAt = Date.now();
  private readonly timer: number;
  /** Aborted when patience is over, or with `stop`. */
  readonly signal: AbortSignal;

  constructor(ms: number, stop?: AbortSignal) {
    this.signal = stop ? AbortSignal.any([stop, this.over.signal]) : this.over.signal;
    this.timer = window.setInterval(() => {
      if (Date.now() - this.heardAt > ms) this.over.abort();
    }, 1000);
  }

  readonly heard = (): void => {
    this.heardAt = Date.now();
  };

  end(): void {
    clearInterval(this.timer);
  }
}
