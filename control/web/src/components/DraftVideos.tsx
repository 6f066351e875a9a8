import * as draft from "../draft";
import { remove, sentBytes, totalBytes } from "../draft";
import type { Item } from "../upload/item";
import { speed } from "../upload/speed";
import { bytes, count, length, span } from "../words";
import { Bar } from "./Bar";
import { Icon } from "./Icon";

/** The videos of the new batch, and how far they have been sent. */
export function DraftVideos() {
  return (
    <>
      <Total />
      <ul class="videos">
        {draft.items.value.map((item) => (
          <Video key={item.key} item={item} />
        ))}
      </ul>
    </>
  );
}

function Total() {
  const sending = draft.items.value.filter((item) => item.phase.value === "sending");
  if (!sending.length) return null;
  const left = totalBytes.value - sentBytes.value;
  return (
    <div class="total">
      <div class="row">
        <span>
          Uploading {count(sending.length, "video")}: {bytes(sentBytes.value)} of {bytes(totalBytes.value)}
        </span>
        <span class="muted">
          {speed.value > 0 && left > 0 && `${bytes(speed.value)}/s · ${span(left / speed.value)} left`}
        </span>
      </div>
      <Bar percent={(100 * sentBytes.value) / totalBytes.value} label="All uploads" />
    </div>
  );
}

function Video({ item }: { item: Item }) {
  const phase = item.phase.value;
  const percent = item.size ? Math.floor((100 * item.sent.value) / item.size) : 0;
  const isBad = phase === "failed" || phase === "refused";
  return (
    <li class={`video ${phase}`}>
      <Picture item={item} />
      <div class="video-text">
        <div class="video-name" title={item.url ?? item.name}>
          {item.name}
        </div>
        <div class="muted small">{facts(item)}</div>
        <div class={`small ${isBad ? "bad-text" : "muted"}`} role={isBad ? "alert" : undefined}>
          {standing(item, percent)}
        </div>
        {["sending", "checking", "paused", "fileless", "failed"].includes(phase) && item.size > 0 && (
          <Bar
            percent={percent}
            label={`Upload of ${item.name}`}
            tone={phase === "sending" ? undefined : "still"}
          />
        )}
      </div>
      <div class="video-actions">
        {phase === "sending" && (
          <Action name="pause" label={`Pause ${item.name}`} onClick={() => item.pause()} />
        )}
        {phase === "paused" && (
          <Action name="play" label={`Resume ${item.name}`} onClick={() => item.start()} />
        )}
        {phase === "failed" && (
          <Action name="retry" label={`Try ${item.name} again`} onClick={() => item.start()} />
        )}
        <Action name="close" label={`Remove ${item.name}`} onClick={() => remove(item)} />
      </div>
    </li>
  );
}

function Action(props: { name: "pause" | "play" | "retry" | "close"; label: string; onClick: () => void }) {
  return (
    <button
      type="button"
      class="quiet square"
      aria-label={props.label}
      title={props.label}
      onClick={props.onClick}
    >
      <Icon name={props.name} />
    </button>
  );
}

function Picture({ item }: { item: Item }) {
  const look = item.look.value;
  if (look) return <img class="picture" src={look.picture} alt="" />;
  return (
    <div class="picture none">
      <Icon name={item.url ? "link" : "film"} />
    </div>
  );
}

function facts(item: Item): string {
  const look = item.look.value;
  if (item.url) return item.url;
  const parts = [bytes(item.size)];
  if (look) parts.push(length(look.duration_s), `${look.width} × ${look.height}`);
  return parts.join(" · ");
}

function standing(item: Item, percent: number): string {
  if (item.trouble.value) return item.trouble.value;
  switch (item.phase.value) {
    case "looking":
      return "Looking into the file…";
    case "sending":
      return `Uploading, ${percent} %`;
    case "paused":
      return `Paused at ${percent} %`;
    case "checking":
      return "Checking…";
    case "ready":
      return item.url ? "Fetched when the batch runs" : ["Ready", ...item.notes.value].join(". ");
    case "fileless":
      return item.stored.value
        ? "The page was reloaded: choose or drop this file again, and the upload goes on where it was."
        : "The page was reloaded: choose or drop this file again.";
    case "failed":
    case "refused":
      return item.problem.value ?? "";
  }
}
