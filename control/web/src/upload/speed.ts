// How fast the uploads go now: over the last few seconds, so that it neither jumps nor lags.
import { signal } from "@preact/signals";
import { pending, sentBytes } from "../draft";

const WINDOW = 5; // samples, a second apart

export const speed = signal(0); // bytes per second

let samples: { at: number; bytes: number }[] = [];

setInterval(() => {
  if (!pending.peek().length) {
    samples = [];
    speed.value = 0;
    return;
  }
  samples = [...samples.slice(-WINDOW), { at: Date.now(), bytes: sentBytes.peek() }];
  const [first, last] = [samples[0], samples.at(-1)];
  if (first && last && last.at > first.at)
    speed.value = Math.max(0, (1000 * (last.bytes - first.bytes)) / (last.at - first.at));
}, 1000);
