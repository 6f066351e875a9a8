import { computed, useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { choices, inRange, VARIATIONS } from "../choices";
import * as draft from "../draft";
import { pending, ready, refused, remove, sentBytes, stuck, totalBytes } from "../draft";
import { leftOut } from "../files";
import { t } from "../texts";
import type { Item } from "../upload/item";
import { speed } from "../upload/speed";
import { bytes, length, span } from "../words";
import { Bar } from "./Bar";
import { ask } from "./Confirm";
import { Icon } from "./Icon";
import { Name } from "./Name";

const say = t.draftVideos;
const REFUSED_OPEN = 3; // so many files that cannot be used are listed at once
const SKIPPED = 3; // a longer list may be skipped by the keyboard
export const CHOOSER_ID = "choose-videos";
export const ORDER_ID = "order";

const usable = computed(() => draft.items.value.filter((item) => item.phase.value !== "refused"));

/** The videos of the new batch, and how far they have been sent; apart from them what cannot be used. */
export function DraftVideos() {
  const isMany = refused.value.length > REFUSED_OPEN;
  return (
    <div class="stack">
      <div class="head">
        <Summary />
        <Total />
      </div>
      {usable.value.length > SKIPPED && (
        <button type="button" class="skip" onClick={() => document.getElementById(ORDER_ID)?.focus()}>
          {say.skip}
        </button>
      )}
      {isMany && <Refused />}
      <ul class="videos">
        {usable.value.map((item) => (
          <Video key={item.key} item={item} />
        ))}
      </ul>
      {refused.value.length > 0 && !isMany && <Refused />}
    </div>
  );
}

/** Remove a video by its own button. The focus goes to the next one's, or to where videos are chosen. */
function removeHere(item: Item, button: HTMLElement): void {
  const buttons = () => [...document.querySelectorAll<HTMLElement>(".video .remove")];
  const at = buttons().indexOf(button);
  remove(item);
  requestAnimationFrame(() => {
    const left = buttons();
    (left[Math.min(at, left.length - 1)] ?? document.getElementById(CHOOSER_ID))?.focus();
  });
}

/** "186 ready · 14 cannot be used", and what can be done about it. */
function Summary() {
  const all = draft.items.value;
  const wouldLose = all.some((item) => item.sent.value > 0 || item.phase.value === "ready");
  const clear = async () => {
    remove(...draft.items.value);
    leftOut.value = 0;
    requestAnimationFrame(() => document.getElementById(CHOOSER_ID)?.focus());
  };
  const onClear = () => {
    if (!wouldLose) return void clear();
    ask({
      title: say.clearTitle(all.length),
      text: sentBytes.value > 0 ? say.clearText(bytes(sentBytes.value)) : say.clearTextUnsent,
      yes: say.clear,
      no: say.keep,
      act: clear,
    });
  };
  const parts = [
    ready.value.length && say.ready(ready.value.length),
    pending.value.length && say.onTheWay(pending.value.length),
    stuck.value.length && say.stuck(stuck.value.length),
    refused.value.length && say.refused(refused.value.length),
    leftOut.value && say.leftOut(leftOut.value),
  ];
  return (
    <div class="row summary">
      <p>{parts.filter(Boolean).join(" · ")}</p>
      <button type="button" class="quiet" onClick={onClear}>
        {say.clear}
      </button>
      <Announcement />
    </div>
  );
}

const QUIET_MS = 1500;

/** What a screen reader says once the uploads have come to rest, not at every step of them. */
function Announcement() {
  const said = useSignal("");
  const isResting = pending.value.length === 0;
  const text = [
    ready.value.length && say.ready(ready.value.length),
    stuck.value.length && say.stuck(stuck.value.length),
    refused.value.length && say.refused(refused.value.length),
  ]
    .filter(Boolean)
    .join(", ");
  useEffect(() => {
    if (!isResting) return;
    const timer = setTimeout(() => {
      said.value = text;
    }, QUIET_MS);
    return () => clearTimeout(timer);
  }, [isResting, text]);
  return (
    <span class="visually-hidden" role="status">
      {said.value}
    </span>
  );
}

/** How far all uploads are. It keeps its place when they are done, so that nothing below it moves. */
function Total() {
  const isSending = draft.items.value.some((item) => item.phase.value === "sending");
  const left = totalBytes.value - sentBytes.value;
  return (
    <div class="total muted small">
      <div class="row">
        <span>
          {isSending
            ? say.uploading(bytes(sentBytes.value), bytes(totalBytes.value))
            : totalBytes.value > 0 && bytes(totalBytes.value)}
        </span>
        <span>
          {isSending &&
            speed.value > 0 &&
            left > 0 &&
            say.speed(bytes(speed.value), span(left / speed.value))}
        </span>
      </div>
      {isSending && <Bar percent={(100 * sentBytes.value) / totalBytes.value} label={say.allUploads} />}
    </div>
  );
}

/** The files that cannot be used, by why; many of them are folded away. */
function Refused() {
  const all = refused.value;
  const reasons = new Map<string, number>();
  for (const { problem } of all)
    reasons.set(problem.value ?? "", (reasons.get(problem.value ?? "") ?? 0) + 1);
  const rows = (
    <ul class="videos">
      {all.map((item) => (
        <Video key={item.key} item={item} />
      ))}
    </ul>
  );
  return (
    <section class="stack refused" aria-label={say.refused(all.length)}>
      <div class="row">
        <h2>{say.refused(all.length)}</h2>
        <button
          type="button"
          onClick={() => {
            remove(...all);
            requestAnimationFrame(() => document.getElementById(CHOOSER_ID)?.focus());
          }}
        >
          {say.removeRefused(all.length)}
        </button>
      </div>
      {all.length > REFUSED_OPEN ? (
        <>
          <ul class="reasons bad-text small">
            {[...reasons]
              .sort((a, b) => b[1] - a[1])
              .map(([why, files]) => (
                <li key={why}>{say.reason(files, why)}</li>
              ))}
          </ul>
          <details>
            <summary>{say.showRefused(all.length)}</summary>
            {rows}
          </details>
        </>
      ) : (
        rows
      )}
    </section>
  );
}

function Video({ item }: { item: Item }) {
  const phase = item.phase.value;
  const percent = item.size ? Math.floor((100 * item.sent.value) / item.size) : 0;
  const isPlain = phase === "ready" && !item.url && !item.notes.value.length; // as most of them in the end
  const isBad = phase === "failed" || phase === "refused";
  return (
    <li class={`video ${phase}`}>
      <Picture item={item} />
      <div class="video-text">
        <div class="video-name" title={item.url ?? item.name}>
          <Name of={item.name} />
        </div>
        <div class="muted small">{facts(item)}</div>
        <div
          class={`small ${isBad ? "bad-text" : "muted"} ${isPlain ? "video-plain" : ""}`}
          role={isBad ? "alert" : undefined}
        >
          {standing(item, percent)}
        </div>
        {["sending", "checking", "paused", "fileless", "failed"].includes(phase) && item.size > 0 && (
          <Bar
            percent={percent}
            label={say.uploadOf(item.name)}
            tone={phase === "sending" ? undefined : "still"}
          />
        )}
      </div>
      {phase !== "refused" && !choices.value.preset && draft.items.value.length > 1 && <Own item={item} />}
      <div class="video-actions">
        {phase === "sending" && (
          <Action name="pause" label={say.pause(item.name)} onClick={() => item.pause()} />
        )}
        {phase === "paused" && (
          <Action name="play" label={say.resume(item.name)} onClick={() => item.start()} />
        )}
        {phase === "failed" && (
          <Action name="retry" label={say.retry(item.name)} onClick={() => item.start()} />
        )}
        <Action
          name="close"
          label={say.remove(item.name)}
          onClick={(button) => removeHere(item, button)}
          kind="remove"
        />
      </div>
    </li>
  );
}

/** How many variations of this video alone. */
function Own({ item }: { item: Item }) {
  return (
    <label class="video-own">
      <span aria-hidden="true">×</span>
      <input
        type="number"
        inputMode="numeric"
        aria-label={say.own(item.name)}
        min={VARIATIONS.least}
        max={VARIATIONS.most}
        placeholder={String(choices.value.variations)}
        value={item.variations.value ?? ""}
        onInput={({ currentTarget: { valueAsNumber } }) => {
          item.variations.value = Number.isFinite(valueAsNumber) ? inRange(valueAsNumber) : null;
        }}
        onBlur={(event) => {
          event.currentTarget.value = String(item.variations.value ?? "");
        }}
      />
      <span class="video-own-word small" aria-hidden="true">
        {say.ownWord}
      </span>
    </label>
  );
}

function Action(props: {
  name: "pause" | "play" | "retry" | "close";
  label: string;
  onClick: (button: HTMLElement) => void;
  kind?: string;
}) {
  return (
    <button
      type="button"
      class={`quiet square ${props.kind ?? ""}`}
      aria-label={props.label}
      title={props.label}
      onClick={(event) => props.onClick(event.currentTarget)}
    >
      <Icon name={props.name} />
    </button>
  );
}

function Picture({ item }: { item: Item }) {
  const look = item.look.value;
  if (look?.width) return <img class="picture" src={look.picture} alt="" loading="lazy" />;
  return (
    <div class="picture none">
      <Icon name={item.url ? "link" : "film"} />
    </div>
  );
}

function facts(item: Item): string {
  const look = item.look.value;
  if (item.url) return item.url;
  const parts = item.size ? [bytes(item.size)] : []; // of a video of an older batch it is not known
  if (look) parts.push(length(look.duration_s));
  if (look?.width) parts.push(`${look.width} × ${look.height}`); // a file may have sound alone
  return parts.join(" · ");
}

function standing(item: Item, percent: number): string {
  if (item.trouble.value) return item.trouble.value;
  switch (item.phase.value) {
    case "looking":
      return say.looking;
    case "sending":
      return say.sending(percent);
    case "paused":
      return say.paused(percent);
    case "checking":
      return say.checking;
    case "ready":
      return item.url ? say.isLink : [say.isReady, ...item.notes.value].join(". ");
    case "fileless":
      return item.stored.value ? say.begunFileless : say.fileless;
    case "failed":
    case "refused":
      return item.problem.value ?? "";
  }
}
