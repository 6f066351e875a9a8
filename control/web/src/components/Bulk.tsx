import { inWords, post, remove } from "../api";
import { type Batch, type BatchSummary, isLive } from "../shapes";
import { t } from "../texts";
import type { Chosen } from "./BatchLines";
import { ask } from "./Confirm";
import { toast } from "./Toast";

const AT_ONCE = 4;
export const CHOOSE = "choose-batches"; // id of the button that has the focus at the end

const canRetry = (batch: BatchSummary): boolean =>
  !isLive(batch) && batch.status !== "expired" && batch.progress.ready < batch.progress.total;

/** What can be done with the chosen batches, in a bar at the lower edge. Each asks once for all of them. */
export function Bulk({
  items,
  chosen,
  onChange,
}: {
  items: BatchSummary[];
  chosen: Chosen;
  onChange: (fresh: BatchSummary[], deleted: ReadonlySet<string>) => void;
}) {
  const some = items.filter(({ batch_id }) => chosen.value?.has(batch_id));
  const sets = { cancel: some.filter(isLive), retry: some.filter(canRetry), delete: some };
  const all = items.length === some.length;
  const act = (verb: keyof typeof sets) => async (stop: AbortSignal) => {
    const fresh: BatchSummary[] = [];
    const deleted = new Set<string>();
    const refused = await each(sets[verb], async ({ batch_id: id }) => {
      if (verb === "delete") {
        await remove(`batches/${id}`, { stop });
        deleted.add(id);
      } else {
        const {
          sources: _,
          attempts: __,
          ...summary
        } = await post<Batch>(`batches/${id}/${verb}`, undefined, { stop });
        fresh.push(summary);
      }
    });
    chosen.value = refused.length ? new Set(refused.map(({ item }) => item.batch_id)) : null;
    onChange(fresh, deleted);
    if (stop.aborted) return;
    setTimeout(() => document.getElementById(CHOOSE)?.focus()); // once the question is gone, and with it the bar
    const done = t.history.done[verb](sets[verb].length - refused.length);
    const [first] = refused;
    if (first) toast(t.history.refused(done, refused.length, inWords(first.error)), "bad");
    else toast(done);
  };
  const button = (verb: keyof typeof sets, kind = "") => {
    const of = sets[verb];
    const missing = of.reduce((sum, { progress: p }) => sum + p.total - p.ready, 0);
    const ready = of.reduce((sum, { progress: p }) => sum + p.ready, 0);
    return (
      <button
        type="button"
        class={kind}
        disabled={!of.length}
        onClick={() =>
          ask({
            title: t.history.ask[verb](of.length),
            text: t.history.askText[verb](verb === "delete" ? ready : missing),
            yes: t.history.yes[verb],
            no: t.history.no,
            act: act(verb),
          })
        }
      >
        {t.history.verbs[verb](of.length)}
      </button>
    );
  };
  return (
    <section class="bulk card" aria-label={t.history.bulk}>
      <div class="row small">
        <input
          type="checkbox"
          aria-label={t.history.chooseAll(items.length)}
          checked={all && some.length > 0}
          onChange={() => {
            chosen.value = new Set(all ? [] : items.map(({ batch_id }) => batch_id));
          }}
        />
        <strong role="status">{t.history.chosen(some.length, items.length)}</strong>
      </div>
      <div class="bulk-actions">
        {button("cancel")}
        {button("retry")}
        {button("delete", "danger")}
      </div>
    </section>
  );
}

/** Do it to each, a few at a time. Returns those that were refused. */
async function each<Item>(
  items: Item[],
  what: (item: Item) => Promise<unknown>,
): Promise<{ item: Item; error: unknown }[]> {
  const [left, refused] = [[...items], [] as { item: Item; error: unknown }[]];
  const work = async () => {
    for (let item = left.shift(); item !== undefined; item = left.shift()) {
      const one = item;
      await what(one).catch((error) => refused.push({ item: one, error }));
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return refused;
}
