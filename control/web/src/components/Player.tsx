import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { type Batch, type Output, outputsOf } from "../shapes";
import { effects, fileName, outputLabel } from "../words";
import { Dialog } from "./Dialog";
import { Notice } from "./Notice";
import { mediaUrl } from "./Sources";

interface Props {
  batch: Batch;
  output: Output;
  ticket: string;
  onPlay: (output: Output | null) => void;
}

/** Plays a result; the arrow keys beside the video go to the next and the one before. */
export function Player({ batch, output, ticket, onPlay }: Props) {
  const isBroken = useSignal(false);
  const ready = outputsOf(batch).filter(({ status }) => status === "ready");
  const at = ready.findIndex(({ output_id }) => output_id === output.output_id);
  const step = (by: number) => {
    const next = ready[at + by];
    if (next) onPlay(next);
  };
  useEffect(() => {
    isBroken.value = false;
  }, [output.output_id]);
  return (
    <Dialog kind="player" title={fileName(output.name)} onClose={() => onPlay(null)}>
      {isBroken.value ? (
        <Notice tone="bad">This browser cannot play it here. Download it instead.</Notice>
      ) : (
        // biome-ignore lint/a11y/useMediaCaption: a user's own video, of which there are no captions
        <video
          key={output.output_id}
          src={mediaUrl(output, ticket, "inline")}
          controls
          autoplay
          loop
          playsInline
          onError={() => {
            isBroken.value = true;
          }}
        />
      )}
      <div class="row">
        <button type="button" disabled={at <= 0} onClick={() => step(-1)}>
          Previous
        </button>
        <span class="muted small center">
          <strong>{outputLabel(output)}</strong>
          <br />
          {effects(output)}
        </span>
        <button type="button" disabled={at < 0 || at >= ready.length - 1} onClick={() => step(1)}>
          Next
        </button>
      </div>
    </Dialog>
  );
}
