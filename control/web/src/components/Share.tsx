import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { inWords, post, remove } from "../api";
import type { LiveBatch } from "../live";
import type { Batch } from "../shapes";
import { t } from "../texts";
import { title, when } from "../words";
import { Dialog } from "./Dialog";
import { Icon } from "./Icon";
import { Notice } from "./Notice";
import { toast } from "./Toast";

/** Whether this is a phone or tablet that hands a link to its messengers. */
const CAN_SEND = "share" in navigator && matchMedia("(pointer: coarse)").matches;

interface Props {
  batch: Batch;
  live: LiveBatch;
}

/** A button that makes a link to an ended batch for people without the password, or ends it. */
export function Share({ batch, live }: Props) {
  const isOpen = useSignal(false);
  const close = () => {
    isOpen.value = false;
  };
  return (
    <>
      <button
        type="button"
        onClick={() => {
          isOpen.value = true;
        }}
      >
        <Icon name="share" />
        {t.share.button}
      </button>
      {isOpen.value && (
        <Dialog title={t.share.title} onClose={close}>
          <Link batch={batch} live={live} onEnd={close} />
        </Dialog>
      )}
    </>
  );
}

function Link({ batch, live, onEnd }: Props & { onEnd: () => void }) {
  const { batch_id, shared, expires_at } = batch;
  const url = useSignal<string | null>(null);
  const field = useRef<HTMLInputElement>(null);
  const isBusy = useSignal(false);
  const problem = useSignal<string | null>(null);
  useEffect(() => field.current?.focus(), [url.value]);
  const address = `batches/${batch_id}/share-link`;
  const doing = (what: () => Promise<void>) => async () => {
    if (isBusy.value) return;
    isBusy.value = true;
    problem.value = null;
    try {
      await what();
    } catch (error) {
      problem.value = inWords(error);
    } finally {
      isBusy.value = false;
    }
  };
  const make = doing(async () => {
    const made = await post<{ url: string }>(address);
    const here = new URL(location.href); // this page may be served from elsewhere than control knows
    here.hash = new URL(made.url).hash;
    url.value = here.href;
    live.poke();
  });
  const end = doing(async () => {
    await remove(address);
    live.poke();
    toast(t.share.ended);
    onEnd();
  });
  const copy = doing(async () => {
    await navigator.clipboard.writeText(url.value ?? "").catch(() => {
      throw new Error(t.share.notCopied);
    });
    toast(t.share.copied);
  });
  const send = doing(async () => {
    try {
      await navigator.share({ title: title(batch), url: url.value ?? "" });
    } catch (error) {
      if (!(error instanceof DOMException && error.name === "AbortError")) throw new Error(t.share.notSent);
    }
  });
  const isThere = shared || url.value !== null;
  return (
    <>
      <p>{t.share.text(expires_at ? when(expires_at) : "")}</p>
      {isThere && !url.value && <p class="muted small">{t.share.hidden}</p>}
      {url.value && (
        <div class="share-link">
          <input
            ref={field}
            readOnly
            value={url.value}
            aria-label={t.share.link}
            onFocus={(event) => event.currentTarget.select()}
          />
          <button type="button" class="primary" onClick={() => void copy()}>
            {t.share.copy}
          </button>
        </div>
      )}
      {problem.value && <Notice tone="bad">{problem.value}</Notice>}
      <div class="dialog-actions">
        {isThere && (
          <button type="button" aria-disabled={isBusy.value} onClick={() => void end()}>
            {t.share.end}
          </button>
        )}
        {url.value && CAN_SEND && (
          <button type="button" disabled={isBusy.value} onClick={() => void send()}>
            {t.share.send}
          </button>
        )}
        {!url.value && (
          <button type="button" class="primary" aria-disabled={isBusy.value} onClick={() => void make()}>
            {isThere ? t.share.makeAnother : t.share.make}
          </button>
        )}
      </div>
    </>
  );
}
