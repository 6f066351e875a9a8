import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { t } from "../texts";
import { Icon } from "./Icon";

const SHOWN_MS = 6000;
const SHOWN_MAX = 3;

interface Toast {
  id: number;
  text: string;
  tone: "plain" | "bad";
}

const toasts = signal<Toast[]>([]);
let lastId = 0;

/**
 * Say what has just happened, over the page, so that nothing on it moves. A screen reader says it too.
 * What went wrong (`bad`) stays until someone closes it; all else goes by itself.
 */
export function toast(text: string, tone: Toast["tone"] = "plain"): void {
  const fresh = { id: ++lastId, text, tone };
  toasts.value = [...toasts.value.filter((other) => other.text !== text), fresh].slice(-SHOWN_MAX);
  if (tone === "plain") setTimeout(() => drop(fresh), SHOWN_MS);
}

function drop({ id }: Toast): void {
  toasts.value = toasts.value.filter((other) => other.id !== id);
}

/** Where toasts appear; the page has it once. */
export function Toasts() {
  const ref = useRef<HTMLDivElement>(null);
  const newest = toasts.value.at(-1)?.id;
  useEffect(() => {
    ref.current?.hidePopover();
    ref.current?.showPopover(); // over a dialog that was opened meanwhile
  }, [newest]);
  return (
    <div ref={ref} class="toasts" popover="manual" role="status">
      {toasts.value.map((one) => (
        <div key={one.id} class={`toast ${one.tone}`}>
          {one.tone === "bad" && <Icon name="warn" />}
          <span>{one.text}</span>
          <button type="button" class="quiet square" aria-label={t.toast.close} onClick={() => drop(one)}>
            <Icon name="close" />
          </button>
        </div>
      ))}
    </div>
  );
}
