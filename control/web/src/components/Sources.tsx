import { useSignal } from "@preact/signals";
import { address } from "../api";
import type { Batch, Output, Source } from "../shapes";
import { bytes, count, effects, fileName, length, outputLabel } from "../words";
import { Bar } from "./Bar";
import { Icon } from "./Icon";

const SHOWN_AT_FIRST = 24;
const EFFECTS_SHOWN = 3;

interface Props {
  batch: Batch;
  ticket: string;
  onPlay: (output: Output) => void;
}

/** The results of each source, as they get ready. */
export function Sources({ batch, ...rest }: Props) {
  return (
    <>
      {batch.sources.map((source) => (
        <OfSource key={source.source_id} source={source} {...rest} />
      ))}
    </>
  );
}

function OfSource({ source, ticket, onPlay }: { source: Source } & Omit<Props, "batch">) {
  const limit = useSignal(SHOWN_AT_FIRST);
  const ready = source.outputs.filter(({ status }) => status === "ready").length;
  const hidden = source.outputs.length - limit.value;
  return (
    <section class="stack source" aria-label={source.name}>
      <div class="row">
        <h2>{source.name}</h2>
        <span class="muted small">
          {ready} of {source.outputs.length} ready
        </span>
      </div>
      <Bar
        percent={source.percent}
        label={`Progress of ${source.name}`}
        tone={source.status === "failed" ? "bad" : source.status === "cancelled" ? "still" : undefined}
      />
      {source.notes.map((note) => (
        <p class="muted small" key={note}>
          {note}
        </p>
      ))}
      <ul class="grid">
        {source.outputs.slice(0, limit.value).map((output) => (
          <Tile key={output.output_id} output={output} ticket={ticket} onPlay={onPlay} />
        ))}
      </ul>
      {hidden > 0 && (
        <button
          type="button"
          onClick={() => {
            limit.value += 4 * SHOWN_AT_FIRST;
          }}
        >
          Show {count(Math.min(hidden, 4 * SHOWN_AT_FIRST), "more", "more")}
        </button>
      )}
    </section>
  );
}

function Tile({ output, ticket, onPlay }: { output: Output } & Omit<Props, "batch">) {
  const label = outputLabel(output);
  const duration = output.duration_s ? length(output.duration_s) : "";
  return (
    <li class={`tile ${output.status}`}>
      {output.status === "ready" ? (
        <button
          type="button"
          class="tile-picture"
          onClick={() => onPlay(output)}
          aria-label={`Play ${label}${duration && `, ${duration}`}`}
        >
          <Poster output={output} ticket={ticket} />
          <span class="tile-play">
            <Icon name="play" />
          </span>
          {duration && <span class="tile-length">{duration}</span>}
        </button>
      ) : (
        <div class="tile-picture">
          <Standing output={output} />
        </div>
      )}
      <div class="tile-text">
        <div class="row">
          <strong class="small">{label}</strong>
          {output.status === "ready" && (
            <a
              class="quiet square"
              href={mediaUrl(output, ticket, "attachment")}
              download={fileName(output.name)}
              aria-label={`Download ${label}`}
              title={output.size_bytes ? `Download, ${bytes(output.size_bytes)}` : "Download"}
            >
              <Icon name="download" />
            </a>
          )}
        </div>
        <p class="tile-effects" title={effects(output)}>
          {output.error ? (
            <span class="bad-text">{output.error.message}</span>
          ) : (
            effects(output, EFFECTS_SHOWN)
          )}
        </p>
      </div>
    </li>
  );
}

function Standing({ output }: { output: Output }) {
  const words = {
    queued: "Waiting",
    running: "Rendering",
    failed: "Failed",
    cancelled: "Cancelled",
    ready: "",
  };
  return (
    <div class="tile-standing small">
      {output.status === "failed" && <Icon name="warn" />}
      <span>
        {words[output.status]}
        {output.status === "running" && output.percent >= 1 && ` ${Math.floor(output.percent)} %`}
      </span>
    </div>
  );
}

function Poster({ output, ticket }: { output: Output; ticket: string }) {
  const isBroken = useSignal(false);
  if (!output.poster || isBroken.value) return <Icon name="film" />;
  return (
    <img
      src={address(`outputs/${output.output_id}/poster?ticket=${encodeURIComponent(ticket)}`)}
      alt=""
      loading="lazy"
      onError={() => {
        isBroken.value = true;
      }}
    />
  );
}

/** Where an output's video is; of an HLS output its media file, which plays by itself. */
export function mediaUrl(output: Output, ticket: string, disposition: "inline" | "attachment"): string {
  return address(`outputs/${output.output_id}?${new URLSearchParams({ ticket, disposition })}`);
}
