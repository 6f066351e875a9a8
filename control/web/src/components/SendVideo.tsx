import { useSignal } from "@preact/signals";
import { address } from "../api";
import { t } from "../texts";
import { fileName } from "../words";
import { Icon } from "./Icon";
import { mediaUrl, type Shown } from "./ReadyTile";
import { toast } from "./Toast";

/** Not from a page hosted elsewhere: after control's redirect the bucket would not know the page's origin. */
const CAN_SEND =
  new URL(address(""), location.href).origin === location.origin &&
  matchMedia("(pointer: coarse)").matches &&
  (navigator.canShare?.({ files: [new File([""], "a.mp4", { type: "video/mp4" })] }) ?? false);

/** On a phone: hands a video to the gallery or another app. A download would end in a folder that few know. */
export function SendVideo({ output, ticket }: { output: Shown; ticket: string }) {
  const file = useSignal<File | null>(null);
  const isBusy = useSignal(false);
  if (!CAN_SEND || output.preset === "hls") return null;
  const send = async () => {
    if (isBusy.value) return;
    isBusy.value = true;
    try {
      file.value ??= await loaded(output, ticket);
      await navigator.share({ files: [file.value] });
    } catch (error) {
      const why = error instanceof DOMException ? error.name : "";
      if (why === "NotAllowedError" && file.value)
        toast(t.sendVideo.again); // the press was too long ago
      else if (why !== "AbortError") toast(t.sendVideo.failed, "bad");
    } finally {
      isBusy.value = false;
    }
  };
  return (
    <button type="button" class="player-send" aria-disabled={isBusy.value} onClick={() => void send()}>
      <Icon name="share" />
      {isBusy.value ? t.sendVideo.loading : t.sendVideo.send}
    </button>
  );
}

/** Throws TypeError, when it cannot be loaded, or breaks off. */
async function loaded(output: Shown, ticket: string): Promise<File> {
  const answer = await fetch(mediaUrl(output, ticket, "inline"));
  if (!answer.ok) throw new TypeError(answer.statusText);
  return new File([await answer.blob()], fileName(output.name), {
    type: answer.headers.get("content-type") || "video/mp4",
  });
}
