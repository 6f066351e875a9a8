import { effect, useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { t } from "../texts";
import { onWake, waits } from "../waits";

/** Whether a picture or video could not be loaded from `url`, and how to say so. Another URL is another try, and so
 * are the end of an outage and a wake. */
export function useBroken(url: string): [boolean, () => void] {
  const broken = useSignal<string | null>(null);
  useEffect(() => {
    const again = () => {
      broken.value = null;
    };
    const leaves = [onWake(again), effect(() => (waits.value.length ? undefined : again()))];
    return () => {
      for (const leave of leaves) leave();
    };
  }, []);
  const breaks = () => {
    broken.value = url;
  };
  return [broken.value === url, breaks];
}

/** Why it could not be loaded: the outage, if there is one, else what `otherwise` says. */
export function whyBroken(otherwise: string): string {
  const [wait] = waits.value;
  return wait || !navigator.onLine ? t.again[wait?.why ?? "away"] : otherwise;
}
