import { effect, useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { t } from "../texts";
import { onWake, waits } from "../waits";

/** From which URLs a picture or video could not be loaded. They are forgotten, and so tried again, at the end of an
 * outage and at each wake. */
export function useBroken() {
  const broken = useSignal<readonly string[]>([]);
  useEffect(() => {
    const forget = () => {
      if (broken.peek().length) broken.value = [];
    };
    const leaves = [onWake(forget), effect(() => (waits.value.length ? undefined : forget()))];
    return () => {
      for (const leave of leaves) leave();
    };
  }, []);
  return {
    has: (url: string): boolean => broken.value.includes(url),
    add: (url: string): void => {
      broken.value = [...broken.value, url];
    },
  };
}

/** Why it could not be loaded: the outage, if there is one, else what `otherwise` says. */
export function whyBroken(otherwise: string): string {
  const [wait] = waits.value;
  return wait || !navigator.onLine ? t.again[wait?.why ?? "away"] : otherwise;
}
