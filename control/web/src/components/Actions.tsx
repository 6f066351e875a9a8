import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { ApiError, address, inWords, type Options, post, remove } from "../api";
import { refill } from "../draft";
import type { LiveBatch } from "../live";
import { go } from "../route";
import { type Batch, isLive, isReady, outputsOf, sizeOf } from "../shapes";
import { t } from "../texts";
import { asked, doNotTell, tellAtEnd } from "../told";
import { bytes, money, number } from "../words";
import { ask } from "./Confirm";
import { Icon, type IconName } from "./Icon";
import { Share } from "./Share";
import { toast } from "./Toast";

/** What can be done with a batch now. */
export function Actions({ live, batch }: { live: LiveBatch; batch: Batch }) {
  const isBusy = useSignal(false);
  const ref = useKeptFocus();
  const { batch_id: id, status, progress } = batch;
  const isLiveNow = isLive(batch);
  const isKept = !isLiveNow && status !== "expired";
  const missing = progress.total - progress.ready;

  const doing = (what: () => Promise<unknown>) => async () => {
    isBusy.value = true;
    try {
      await what();
    } catch (error) {
      toast(refusal(error), "bad");
    } finally {
      isBusy.value = false;
    }
  };
  const change = async (verb: "cancel" | "retry", options: Options = {}) => {
    live.take(await post<Batch>(`batches/${id}/${verb}`, undefined, options));
    live.poke();
  };
  const button = (icon: IconName, name: string, onClick: () => void, kind = "", isPossible = true) => (
    <button
      type="button"
      class={kind}
      disabled={!isPossible}
      aria-disabled={isBusy.value}
      onClick={() => isBusy.value || onClick()}
    >
      <Icon name={icon} />
      {name}
    </button>
  );
  return (
    <div class="actions" ref={ref} tabIndex={-1}>
      {(isLiveNow || (isKept && progress.ready > 0)) &&
        button(
          "download",
          downloadLabel(batch),
          doing(() => download(batch)),
          "primary",
          progress.ready > 0,
        )}
      {isLiveNow && <Tell id={id} />}
      {isLiveNow &&
        button("stop", t.actions.cancel, () =>
          ask({
            title: t.actions.cancelTitle,
            text: t.actions.cancelText(progress.ready, missing, money(batch.cost_usd)),
            yes: t.actions.cancelYes,
            no: t.actions.cancelNo,
            act: (stop) => change("cancel", { stop }),
          }),
        )}
      {isKept &&
        missing > 0 &&
        button(
          "retry",
          t.actions.retry(number(missing)),
          doing(() => change("retry")),
        )}
      {isKept && progress.ready > 0 && <Share batch={batch} live={live} />}
      {isKept && button("again", t.actions.again, () => refill(batch))}
      {button("link", t.actions.copyLink, doing(copyLink))}
      {button("trash", t.actions.delete, () =>
        ask({
          title: t.actions.deleteTitle,
          text: t.actions.deleteText(progress.ready, isLiveNow),
          yes: t.actions.delete,
          act: async (stop) => {
            await remove(`batches/${id}`, { stop });
            go("#/batches");
          },
        }),
      )}
    </div>
  );
}

/** Keeps the focus near when the button that had it goes, as "Cancel" does at the end. */
function useKeptFocus() {
  const ref = useRef<HTMLDivElement>(null);
  const hadFocus = useRef(false);
  useEffect(() => {
    if (hadFocus.current && document.activeElement === document.body) ref.current?.focus();
    hadFocus.current = ref.current?.contains(document.activeElement) ?? false;
  });
  return ref;
}

/** Whether the browser is to say when the batch is done. */
function Tell({ id }: { id: string }) {
  const isAsked = asked.value.includes(id);
  const toggle = async () => {
    if (isAsked) doNotTell(id);
    else if (!(await tellAtEnd(id))) toast(t.actions.tellRefused, "bad");
  };
  return (
    <button type="button" aria-pressed={isAsked} onClick={() => void toggle()}>
      <Icon name={isAsked ? "check" : "bell"} />
      {t.actions.tell}
    </button>
  );
}

function downloadLabel(batch: Batch): string {
  const { ready, total } = batch.progress;
  const size = sizeOf(outputsOf(batch).filter(isReady));
  const what = isLive(batch)
    ? t.actions.downloadSoFar
    : ready < total
      ? t.actions.downloadReady(number(ready))
      : t.actions.downloadAll;
  return size ? `${what} · ${bytes(size)}` : what;
}

export function refusal(error: unknown): string {
  return error instanceof ApiError && error.code === "source_gone" ? t.actions.sourcesGone : inWords(error);
}

/**
 * Download the ZIP of what is ready, or of some outputs, by a link that the browser follows by itself, so
 * that its own download list shows and resumes it.
 */
export async function download({ batch_id }: Pick<Batch, "batch_id">, output_ids?: string[]): Promise<void> {
  const wanted = output_ids && { output_ids };
  const { url } = await post<{ url: string }>(`batches/${batch_id}/download-link`, wanted);
  const link = document.createElement("a");
  link.href = new URL(url, new URL(address(""), location.href)).href;
  link.download = "";
  link.click();
}

async function copyLink(): Promise<void> {
  await navigator.clipboard.writeText(location.href).catch(() => {
    throw new Error(t.actions.notCopied(location.href));
  });
  toast(t.actions.copied);
}
