import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { DraftVideos } from "../components/DraftVideos";
import { Icon } from "../components/Icon";
import { Notice } from "../components/Notice";
import { Price } from "../components/Price";
import { Start } from "../components/Start";
import { add, addUrls, items, outputsCount, preset, VARIATIONS, variations } from "../draft";
import type { Preset } from "../shapes";
import { count, PRESET } from "../words";

const ACCEPT = "video/*,.mp4,.mov,.m4v,.qt,.3gp,.3g2";

export function NewBatch() {
  const isEmpty = items.value.length === 0;
  return (
    <DropTarget>
      <div class={`new ${isEmpty ? "empty" : ""}`}>
        <h1>{isEmpty ? "Drop your videos" : "New batch"}</h1>
        {isEmpty && <p class="lead">Get back many fresh variations of each, ready to upload, as one ZIP.</p>}
        <div class="new-columns">
          <section class="stack" aria-label="Videos">
            <Chooser isLarge={isEmpty} />
            {!isEmpty && <DraftVideos />}
          </section>
          {!isEmpty && (
            <section class="card stack order" aria-label="What to make">
              <Amount />
              <Price />
              <Start />
            </section>
          )}
        </div>
      </div>
    </DropTarget>
  );
}

/** The whole screen takes files. */
function DropTarget({ children }: { children: ComponentChildren }) {
  const isOver = useSignal(0); // entered and not left
  useEffect(() => {
    const hasFiles = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
    const enter = (event: DragEvent) => {
      if (hasFiles(event)) isOver.value += 1;
    };
    const leave = (event: DragEvent) => {
      if (hasFiles(event)) isOver.value -= 1;
    };
    const drop = (event: DragEvent) => {
      event.preventDefault();
      isOver.value = 0;
      add(event.dataTransfer?.files ?? []);
    };
    const all = new AbortController();
    const on = <Name extends keyof WindowEventMap>(name: Name, take: (event: WindowEventMap[Name]) => void) =>
      addEventListener(name, take, { signal: all.signal });
    on("dragenter", enter);
    on("dragleave", leave);
    on("dragover", (event) => event.preventDefault());
    on("drop", drop);
    on("paste", (event) => add(event.clipboardData?.files ?? []));
    return () => all.abort();
  }, []);
  return <div class={isOver.value > 0 ? "drop-target over" : "drop-target"}>{children}</div>;
}

function Chooser({ isLarge }: { isLarge: boolean }) {
  const input = useRef<HTMLInputElement>(null);
  const isPasting = useSignal(false);
  return (
    <div class={`drop ${isLarge ? "large" : ""}`}>
      {isLarge && (
        <div class="drop-icon">
          <Icon name="upload" />
        </div>
      )}
      <div class="drop-buttons">
        <button type="button" class={isLarge ? "primary" : ""} onClick={() => input.current?.click()}>
          {isLarge ? "Choose videos" : "Add videos"}
        </button>
        <button
          type="button"
          class="quiet"
          aria-expanded={isPasting.value}
          onClick={() => {
            isPasting.value = !isPasting.value;
          }}
        >
          {isLarge ? "or paste links" : "Add links"}
        </button>
      </div>
      <p class="muted small">{isLarge ? "MP4 or MOV, as many as you like" : "or drop them anywhere here"}</p>
      <input
        ref={input}
        type="file"
        class="hidden"
        accept={ACCEPT}
        multiple
        aria-label="Videos"
        tabIndex={-1}
        onChange={(event) => {
          add(event.currentTarget.files ?? []);
          event.currentTarget.value = ""; // so that the same file can be picked again
        }}
      />
      {isPasting.value && (
        <Links
          onDone={() => {
            isPasting.value = false;
          }}
        />
      )}
    </div>
  );
}

function Links({ onDone }: { onDone: () => void }) {
  const field = useRef<HTMLTextAreaElement>(null);
  const problem = useSignal<string | null>(null);
  useEffect(() => field.current?.focus(), []);
  const submit = (event: Event) => {
    event.preventDefault();
    const bad = addUrls(field.current?.value ?? "");
    if (!bad.length) return onDone();
    problem.value = `Not a web address: ${bad.join(", ")}`;
    if (field.current) field.current.value = bad.join("\n");
  };
  return (
    <form class="stack links" onSubmit={submit}>
      <label class="field">
        <span>Links to MP4 or MOV videos, one per line</span>
        <textarea ref={field} rows={3} placeholder="https://…" spellcheck={false} />
      </label>
      {problem.value && <Notice tone="bad">{problem.value}</Notice>}
      <button type="submit">Add these links</button>
    </form>
  );
}

function Amount() {
  const set = (value: number) => {
    if (Number.isFinite(value))
      variations.value = Math.max(VARIATIONS.least, Math.min(VARIATIONS.most, Math.round(value)));
  };
  return (
    <div class="stack">
      <label class="field">
        <span>Make of each video</span>
        <select
          value={preset.value ?? ""}
          onChange={(event) => {
            preset.value = (event.currentTarget.value || null) as Preset | null;
          }}
        >
          <option value="">Variations</option>
          {Object.entries(PRESET).map(([value, name]) => (
            <option key={value} value={value}>
              {name}
            </option>
          ))}
        </select>
      </label>
      {!preset.value && (
        <div class="field">
          <label for="variations">How many variations</label>
          <div class="stepper">
            <button type="button" onClick={() => set(variations.value - 1)} aria-label="One less">
              −
            </button>
            <input
              id="variations"
              type="number"
              inputMode="numeric"
              min={VARIATIONS.least}
              max={VARIATIONS.most}
              value={variations.value}
              onInput={(event) => set(event.currentTarget.valueAsNumber)}
              onBlur={(event) => {
                event.currentTarget.value = String(variations.value);
              }}
            />
            <button type="button" onClick={() => set(variations.value + 1)} aria-label="One more">
              +
            </button>
          </div>
        </div>
      )}
      <p class="muted small">
        {preset.value
          ? `One result of each video: ${count(outputsCount.value, "video")} in all.`
          : `Each a little different in zoom, colour, speed and angle: ${count(outputsCount.value, "video")} in all.`}
      </p>
    </div>
  );
}
