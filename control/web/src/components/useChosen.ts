import { computed, type Signal } from "@preact/signals";
import { useMemo } from "preact/hooks";

/** Whether an output is chosen, and what changes that. Only where it is changed something is drawn anew. */
export function useChosen(chosen: Signal<ReadonlySet<string>>, id: string): [boolean, () => void] {
  const isChosen = useMemo(() => computed(() => chosen.value.has(id)), [id]).value;
  const toggle = () => {
    const next = new Set(chosen.peek());
    if (!next.delete(id)) next.add(id);
    chosen.value = next;
  };
  return [isChosen, toggle];
}
