// Where the user is. The part after `#` alone, so that the page can be served from any folder of any host.
import { computed, signal } from "@preact/signals";

export type Route =
  | { screen: "new" }
  | { screen: "history" }
  | { screen: "usage" }
  | { screen: "shared"; token: string; output: string | null }
  | { screen: "batch"; id: string; output: string | null }; // the output that is played

const hash = signal(location.hash);
addEventListener("hashchange", () => {
  hash.value = location.hash;
});

export const route = computed<Route>(() => {
  const [, screen, id, output] = /^#\/([a-z]*)\/?([\w-]*)\/?([\w-]*)(?:\?.*)?$/.exec(hash.value) ?? [];
  if (screen === "batches" && id) return { screen: "batch", id, output: output || null };
  if (screen === "batches") return { screen: "history" };
  if (screen === "shared") return { screen: "shared", token: id ?? "", output: output || null };
  if (screen === "usage") return { screen: "usage" };
  return { screen: "new" };
});

export const linkTo = (id: string, output = ""): string => `#/batches/${id}${output && `/${output}`}`;

export function go(to: string): void {
  location.hash = to;
}

/** Go there in place of where the user is: Back leads to what was before both. */
export function replace(to: string): void {
  history.replaceState(history.state, "", to);
  hash.value = location.hash;
}
