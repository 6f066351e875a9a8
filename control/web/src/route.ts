// Where the user is. The part after `#` alone, so that the page can be served from any folder of any host.
import { computed, signal } from "@preact/signals";

export type Route =
  | { screen: "new" }
  | { screen: "history" }
  | { screen: "usage" }
  | { screen: "batch"; id: string };

const hash = signal(location.hash);
addEventListener("hashchange", () => {
  hash.value = location.hash;
});

export const route = computed<Route>(() => {
  const [, screen, id] = /^#\/([a-z]*)\/?([\w-]*)$/.exec(hash.value) ?? [];
  if (screen === "batches" && id) return { screen: "batch", id };
  if (screen === "batches") return { screen: "history" };
  if (screen === "usage") return { screen: "usage" };
  return { screen: "new" };
});

export const linkTo = (id: string): string => `#/batches/${id}`;

export function go(to: string): void {
  location.hash = to;
}
