import { type Signal, useSignal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import type { Output } from "../shapes";
import { t } from "../texts";
import { effects, outputLabel, said } from "../words";
import { Icon } from "./Icon";
import { mediaUrl, ReadyTile } from "./ReadyTile";
import { useChosen } from "./useChosen";

const EFFECTS_SHOWN = 3;
const INTENT_MS = 300; // a pointer that stays so long means it
const CAN_PREVIEW = matchMedia("(hover: hover) and (prefers-reduced-motion: no-preference)");

interface Props {
  output: Output;
  ticket: string;
  chosen: Signal<ReadonlySet<string>>;
  onPlay: (output: Output) => void;
  /** Told the size of the picture once it is there. */
  onShape: (width: number, height: number) => void;
}

/** One output. Its inside is drawn again only when the output has changed, which keeps a page of many quick. */
export function Tile(props: Props) {
  const { output, ticket } = props;
  const { output_id: id, status, poster } = output;
  const inside = useMemo(
    () => (status === "ready" ? <Ready key={id} {...props} /> : <Unready output={output} />),
    [id, status, Math.floor(output.percent), poster, ticket, output.error?.message],
  );
  return (
    <li class={`tile ${status}`} data-output={id}>
      {inside}
    </li>
  );
}

function Choose({ output, chosen }: Pick<Props, "output" | "chosen">) {
  const [isChosen, toggle] = useChosen(chosen, output.output_id);
  return (
    <label class="tile-choose">
      <input
        type="checkbox"
        checked={isChosen}
        onChange={toggle}
        aria-label={t.sources.choose(outputLabel(output))}
      />
    </label>
  );
}

function Ready({ output, ticket, chosen, onPlay, onShape }: Props) {
  const preview = usePreview();
  return (
    <ReadyTile
      output={output}
      ticket={ticket}
      onPlay={() => onPlay(output)}
      onShape={onShape}
      onEnter={preview.enter}
      onLeave={preview.leave}
      beside={<Choose output={output} chosen={chosen} />}
      over={
        preview.isOn && <video src={mediaUrl(output, ticket, "inline")} muted autoplay loop playsInline />
      }
    >
      <Effects output={output} />
    </ReadyTile>
  );
}

function Unready({ output }: { output: Output }) {
  return (
    <>
      <div class="tile-picture">
        <div class="tile-standing small">
          {output.status === "failed" && <Icon name="warn" />}
          <span>
            {t.sources.states[output.status]}
            {output.status === "running" && output.percent >= 1 && ` ${Math.floor(output.percent)} %`}
          </span>
        </div>
      </div>
      <div class="tile-text">
        <div class="row">
          <strong class="small">{outputLabel(output)}</strong>
        </div>
        {output.error ? (
          <p class="tile-error">{said("results", output.error)}</p>
        ) : (
          <Effects output={output} />
        )}
      </div>
    </>
  );
}

function Effects({ output }: { output: Output }) {
  const all = effects(output);
  return (
    <p class="tile-effects" title={all.join(" · ")}>
      {all
        .slice(0, EFFECTS_SHOWN)
        .map((effect) => effect.replaceAll(" ", "\u00a0")) // each on one line
        .join(" · ")}
    </p>
  );
}

/** Whether a mouse has stayed long enough for the video to play in place of the picture. */
function usePreview() {
  const isOn = useSignal(false);
  const timer = useRef(0);
  const leave = () => {
    clearTimeout(timer.current);
    isOn.value = false;
  };
  useEffect(() => () => clearTimeout(timer.current), []);
  const enter = (event: PointerEvent) => {
    if (event.pointerType !== "mouse" || !CAN_PREVIEW.matches) return;
    timer.current = window.setTimeout(() => {
      isOn.value = true;
    }, INTENT_MS);
  };
  return { isOn: isOn.value, enter, leave };
}
