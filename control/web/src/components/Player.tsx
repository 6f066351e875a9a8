import { type Signal, useSignal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { address } from "../api";
import { keepInStep } from "../inStep";
import { type Batch, isReady, type Output, outputsOf, type Source } from "../shapes";
import { t } from "../texts";
import { effects, fileName, length, outputLabel } from "../words";
import { Dialog } from "./Dialog";
import { Icon, type IconName } from "./Icon";
import { Notice } from "./Notice";
import { PlayerFoot } from "./PlayerFoot";
import { mediaUrl } from "./ReadyTile";
import { useBroken, whyBroken } from "./useBroken";
import { useChosen } from "./useChosen";

const FRAME_S = 1 / 30;
const KEY = "refresher.view";
const USUAL_RATIO = 16 / 9;

type View = keyof typeof t.player.views;

interface Props {
  batch: Batch;
  output: Output;
  ticket: string;
  chosen: Signal<ReadonlySet<string>>;
  onPlay: (output: Output | null) => void;
}

/**
 * Plays a result beside its source, in step; keys and buttons lead to the next one and the one before. What is
 * liked is chosen here too.
 */
export function Player({ batch, output, ticket, chosen, onPlay }: Props) {
  const ready = outputsOf(batch).filter(isReady);
  const at = ready.findIndex(({ output_id }) => output_id === output.output_id);
  const source = batch.sources.find(({ outputs }) =>
    outputs.some(({ output_id }) => output_id === output.output_id),
  );
  const step = (by: number) => {
    const next = ready[at + by];
    if (next) onPlay(next);
  };
  const [isChosen, toggleChosen] = useChosen(chosen, output.output_id);
  useKeys({ ArrowLeft: () => step(-1), ArrowRight: () => step(1) });
  if (!source) return null;
  return (
    <Dialog kind="player" title={fileName(output.name)} onClose={() => onPlay(null)}>
      <Stage key={output.output_id} output={output} source={source} ticket={ticket} />
      <ul class="chips small" aria-label={t.player.effects}>
        {effects(output).map((effect) => (
          <li key={effect}>{effect}</li>
        ))}
      </ul>
      <PlayerFoot
        output={output}
        ticket={ticket}
        hasPrevious={at > 0}
        hasNext={at >= 0 && at < ready.length - 1}
        onStep={step}
      >
        <button type="button" aria-pressed={isChosen} onClick={toggleChosen}>
          <Icon name={isChosen ? "check" : "plus"} />
          {t.player.choose}
        </button>
      </PlayerFoot>
      <p class="muted small center player-keys">{t.player.keys}</p>
    </Dialog>
  );
}

/** The pictures of one result and its source, and what plays them. */
function Stage({ output, source, ticket }: { output: Output; source: Source; ticket: string }) {
  const stage = useRef<HTMLDivElement>(null);
  const result = useRef<HTMLVideoElement>(null);
  const original = useRef<HTMLVideoElement>(null);
  const broken = useBroken();
  const isBroken = broken.has(ticket);
  const hasSource = useSignal(true); // until it turns out that it cannot be played
  const wanted = useSignal<View>(wantedView());
  const wipe = useSignal(50);
  const seenRatio = useSignal(USUAL_RATIO); // where that of the source is unknown
  const view = hasSource.value ? wanted.value : "alone";
  // A new ticket would load the videos again: it is taken only after one could not be loaded.
  const urls = useMemo(
    () => ({
      result: mediaUrl(output, ticket, "inline"),
      source: address(`sources/${source.source_id}?${new URLSearchParams({ ticket })}`),
    }),
    [isBroken],
  );
  const isAlone = view === "alone";
  const isFlipped = view === "wipe" && output.effects.mirror === true; // else the halves would not fit
  useEffect(() => {
    const { speed } = output.effects;
    if (!isAlone && result.current && original.current)
      return keepInStep(result.current, original.current, typeof speed === "number" ? speed : 1);
    return undefined;
  }, [isAlone, isBroken]);
  if (isBroken) return <Notice tone="bad">{whyBroken(t.player.broken)}</Notice>;
  const ratio = source.width && source.height ? source.width / source.height : seenRatio.value;
  const toggle = () => (result.current?.paused ? void result.current.play() : result.current?.pause());
  return (
    <>
      {hasSource.value ? (
        <fieldset class="segments">
          <legend class="visually-hidden">{t.player.view}</legend>
          {(Object.keys(t.player.views) as View[]).map((name) => (
            <label key={name}>
              <input
                type="radio"
                name="view"
                checked={view === name}
                onChange={() => {
                  wanted.value = name;
                  localStorage.setItem(KEY, name);
                }}
              />
              <span>{t.player.views[name]}</span>
            </label>
          ))}
        </fieldset>
      ) : (
        <p class="muted small">{t.player.noSource}</p>
      )}
      <div
        ref={stage}
        class={`stage ${view} ${ratio < 1 ? "upright" : ""} ${isFlipped ? "flip" : ""}`}
        style={{ "--ratio": ratio, "--wipe": `${wipe.value}%` }}
      >
        {!isAlone && (
          <figure class="stage-source">
            <video
              ref={original}
              src={urls.source}
              muted
              playsInline
              onClick={toggle}
              onError={() => {
                hasSource.value = false;
              }}
            />
            <figcaption>{isFlipped ? t.player.flipped : t.player.source}</figcaption>
          </figure>
        )}
        <figure class="stage-result">
          {/* biome-ignore lint/a11y/useMediaCaption: a user's own video, of which there are no captions */}
          <video
            ref={result}
            src={urls.result}
            autoplay
            loop
            playsInline
            onClick={toggle}
            onLoadedMetadata={({ currentTarget: { videoWidth, videoHeight } }) => {
              if (videoHeight) seenRatio.value = videoWidth / videoHeight;
            }}
            onError={() => broken.add(ticket)}
          />
          {!isAlone && <figcaption>{outputLabel(output)}</figcaption>}
        </figure>
        {view === "wipe" && <Wipe at={wipe} />}
      </div>
      <Controls video={result} stage={stage} toggle={toggle} />
    </>
  );
}

/** The line between source and result: anywhere on the pictures by pointers, and by keys. */
function Wipe({ at }: { at: Signal<number> }) {
  const follow = ({ currentTarget, clientX }: PointerEvent & { currentTarget: HTMLInputElement }) => {
    const { left, width } = currentTarget.getBoundingClientRect();
    at.value = Math.round(Math.max(0, Math.min(100, (100 * (clientX - left)) / width)));
  };
  return (
    <div class="stage-over">
      <input
        class="stage-wipe"
        type="range"
        min="0"
        max="100"
        value={at.value}
        aria-label={t.player.wipe}
        aria-valuetext={`${at.value} %`}
        onInput={(event) => {
          at.value = event.currentTarget.valueAsNumber;
        }}
        onPointerDown={(event) => {
          event.currentTarget.setPointerCapture(event.pointerId);
          follow(event);
        }}
        onPointerMove={(event) => event.buttons && follow(event)}
      />
      <div class="stage-line" />
    </div>
  );
}

/** Beside each other where there is room for two, until the user wants something else. */
function wantedView(): View {
  const kept = localStorage.getItem(KEY);
  if (kept && kept in t.player.views) return kept as View;
  return matchMedia("(min-width: 700px)").matches ? "beside" : "alone";
}

interface ControlsProps {
  video: { readonly current: HTMLVideoElement | null };
  stage: { readonly current: HTMLDivElement | null };
  toggle: () => void;
}

function Controls({ video, stage, toggle }: ControlsProps) {
  const isPaused = useSignal(true);
  const isMuted = useSignal(false);
  const time = useSignal(0);
  const duration = useSignal(0);
  useEffect(() => {
    const of = video.current;
    if (!of) return;
    const read = () => {
      isPaused.value = of.paused;
      isMuted.value = of.muted;
      time.value = of.currentTime;
      duration.value = of.duration || 0;
    };
    const events = ["play", "pause", "timeupdate", "seeking", "durationchange", "volumechange"];
    for (const event of events) of.addEventListener(event, read);
    read();
    return () => {
      for (const event of events) of.removeEventListener(event, read);
    };
  }, []);
  const seek = (to: number) => {
    if (video.current) video.current.currentTime = Math.max(0, Math.min(to, video.current.duration || 0));
  };
  const frame = (by: number) => {
    video.current?.pause();
    seek((video.current?.currentTime ?? 0) + by * FRAME_S);
  };
  useKeys({
    " ": toggle,
    ",": () => frame(-1),
    ".": () => frame(1),
    Home: () => seek(0),
    End: () => seek(Number.POSITIVE_INFINITY),
  });
  const button = (icon: IconName, name: string, onClick: () => void, isFirst = false) => (
    <button
      type="button"
      class="quiet square"
      aria-label={name}
      title={name}
      autofocus={isFirst}
      onClick={onClick}
    >
      <Icon name={icon} />
    </button>
  );
  const shown = t.player.positionOf(length(time.value), length(duration.value));
  return (
    <div class="controls">
      {isPaused.value
        ? button("play", t.player.play, toggle, true)
        : button("pause", t.player.pause, toggle, true)}
      <input
        type="range"
        min="0"
        max={duration.value}
        step="0.01"
        value={time.value}
        aria-label={t.player.position}
        aria-valuetext={shown}
        onInput={(event) => seek(event.currentTarget.valueAsNumber)}
      />
      <span class="muted small" aria-hidden="true">
        {length(time.value)} / {length(duration.value)}
      </span>
      {button(isMuted.value ? "silence" : "sound", isMuted.value ? t.player.unmute : t.player.mute, () => {
        if (video.current) video.current.muted = !video.current.muted;
      })}
      {document.fullscreenEnabled &&
        button("full", t.player.full, () =>
          document.fullscreenElement
            ? void document.exitFullscreen()
            : void stage.current?.requestFullscreen(),
        )}
    </div>
  );
}

/** What has a use of its own for a key while it has the focus. */
function takers(key: string): string {
  if (key === " ") return "button, a, [type=radio]";
  return key.length > 1 ? "input" : "none"; // arrows, Home and End
}

/** Keys of the whole player, but for those that the control with the focus has a use for. */
function useKeys(acts: Record<string, () => void>): void {
  const latest = useRef(acts);
  latest.current = acts;
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const act = latest.current[event.key];
      const isTaken = event.target instanceof Element && event.target.closest(takers(event.key));
      if (!act || isTaken || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      act();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
}
