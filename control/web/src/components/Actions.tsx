import { useSignal } from "@preact/signals";
import { ApiError, address, inWords, post, remove } from "../api";
import { refill } from "../draft";
import type { LiveBatch } from "../live";
import { go } from "../route";
import { type Batch, isLive } from "../shapes";
import { count } from "../words";
import { Dialog } from "./Dialog";
import { Icon, type IconName } from "./Icon";
import { Notice } from "./Notice";

/** What can be done with a batch now. */
export function Actions({ live, batch }: { live: LiveBatch; batch: Batch }) {
  const isBusy = useSignal(false);
  const said = useSignal<{ text: string; tone: "plain" | "bad" } | null>(null);
  const isAsking = useSignal(false);
  const isLiveNow = isLive(batch);
  const isExpired = batch.status === "expired";
  const missing = batch.progress.total - batch.progress.ready;

  const doing = (what: () => Promise<string | undefined>) => async () => {
    isBusy.value = true;
    said.value = null;
    try {
      const text = await what();
      if (text) said.value = { text, tone: "plain" };
    } catch (error) {
      said.value = { text: refusal(error), tone: "bad" };
    } finally {
      isBusy.value = false;
    }
  };
  const change = (verb: "cancel" | "retry") =>
    doing(async () => {
      live.take(await post<Batch>(`batches/${batch.batch_id}/${verb}`));
      live.poke();
      return undefined;
    });
  const button = (icon: IconName, name: string, onClick: () => void, kind = "", isPossible = true) => (
    <button type="button" class={kind} disabled={isBusy.value || !isPossible} onClick={onClick}>
      <Icon name={icon} />
      {name}
    </button>
  );
  return (
    <div class="actions-area">
      <div class="actions">
        {!isExpired &&
          button(
            "download",
            isLiveNow ? "Download so far" : "Download all",
            doing(() => download(batch)),
            "primary",
            batch.progress.ready > 0,
          )}
        {isLiveNow && button("stop", "Cancel", change("cancel"))}
        {!isLiveNow &&
          !isExpired &&
          missing > 0 &&
          button("retry", `Retry ${missing} missing`, change("retry"))}
        {!isLiveNow && !isExpired && button("again", "Same again", () => refill(batch))}
        {button("link", "Copy link", doing(copyLink))}
        {button("trash", "Delete", () => {
          isAsking.value = true;
        })}
      </div>
      {said.value && <Notice tone={said.value.tone}>{said.value.text}</Notice>}
      {isAsking.value && (
        <Dialog
          title="Delete this batch?"
          onClose={() => {
            isAsking.value = false;
          }}
        >
          <p>
            {isLiveNow ? "It is cancelled, and its " : "Its "}
            {count(batch.progress.ready, "ready video")} and its record are removed for good.
          </p>
          <div class="dialog-actions">
            <button
              type="button"
              onClick={() => {
                isAsking.value = false;
              }}
            >
              Keep it
            </button>
            {button(
              "trash",
              "Delete",
              doing(async () => {
                await remove(`batches/${batch.batch_id}`);
                go("#/batches");
                return undefined;
              }),
              "danger",
            )}
          </div>
          {said.value?.tone === "bad" && <Notice tone="bad">{said.value.text}</Notice>}
        </Dialog>
      )}
    </div>
  );
}

function refusal(error: unknown): string {
  if (error instanceof ApiError && error.code === "source_gone")
    return "The uploaded videos of this batch are gone. Drop them again in a new batch.";
  return inWords(error);
}

/** A link that the browser follows by itself, so that its own download list shows and resumes it. */
async function download(batch: Batch): Promise<undefined> {
  const { url } = await post<{ url: string }>(`batches/${batch.batch_id}/download-link`);
  const link = document.createElement("a");
  link.href = new URL(url, new URL(address(""), location.href)).href;
  link.download = "";
  link.click();
  return undefined;
}

async function copyLink(): Promise<string> {
  await navigator.clipboard.writeText(location.href).catch(() => {
    throw new Error(`The browser does not let the page copy. The link is ${location.href}`);
  });
  return "The link is copied. Whoever opens it has to sign in.";
}
