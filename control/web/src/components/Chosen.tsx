import { type Signal, useSignal } from "@preact/signals";
import { type Batch, isReady, outputsOf, sizeOf } from "../shapes";
import { t } from "../texts";
import { bytes, number } from "../words";
import { download, refusal } from "./Actions";
import { Icon } from "./Icon";
import { toast } from "./Toast";

interface Props {
  batch: Batch;
  chosen: Signal<ReadonlySet<string>>;
  /** Whether the batch's own download button is out of sight. */
  isDownloadAway: boolean;
}

/** A bar at the lower edge: it downloads the chosen outputs, or all that are ready once the usual button is away. */
export function Chosen({ batch, chosen, isDownloadAway }: Props) {
  const isBusy = useSignal(false);
  const ready = outputsOf(batch).filter(isReady);
  const some = ready.filter(({ output_id }) => chosen.value.has(output_id));
  const of = some.length ? some : ready;
  if (!some.length && (!isDownloadAway || !ready.length)) return null;
  const n = number(of.length);
  const go = async () => {
    if (isBusy.value) return;
    isBusy.value = true;
    try {
      await download(batch, some.length ? some.map(({ output_id }) => output_id) : undefined);
    } catch (error) {
      toast(refusal(error), "bad");
    } finally {
      isBusy.value = false;
    }
  };
  return (
    <section class="reach" aria-label={t.chosen.region}>
      <strong class="small" role={some.length ? "status" : undefined}>
        {some.length ? t.chosen.chosen(n) : t.chosen.ready(n)}
      </strong>
      {some.length > 0 && (
        <button
          type="button"
          class="quiet square"
          aria-label={t.chosen.clear}
          title={t.chosen.clear}
          onClick={() => {
            chosen.value = new Set();
            document.getElementById("choose")?.focus();
          }}
        >
          <Icon name="close" />
        </button>
      )}
      <button type="button" class="primary" aria-disabled={isBusy.value} onClick={() => void go()}>
        <Icon name="download" />
        {t.chosen.download(bytes(sizeOf(of)))}
      </button>
    </section>
  );
}
