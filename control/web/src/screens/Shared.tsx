import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { ApiError, address, get, inWords } from "../api";
import { Again } from "../components/Again";
import { Dialog } from "../components/Dialog";
import { Icon } from "../components/Icon";
import { Language } from "../components/Language";
import { Notice } from "../components/Notice";
import { PlayerFoot } from "../components/PlayerFoot";
import { mediaUrl, ReadyTile } from "../components/ReadyTile";
import { useBroken, whyBroken } from "../components/useBroken";
import { usePlaying } from "../components/usePlaying";
import type { SharedBatch, SharedOutput } from "../shapes";
import { t } from "../texts";
import { onWake } from "../waits";
import { bytes, fileName, namesOf, outputLabel, when } from "../words";

const TICKET_MS = 40 * 60 * 1000; // of an hour
const SHOWN_AT_FIRST = 60;

/** What someone without the password sees of a batch by its share link: pictures, player and download. */
export function Shared({ token, output }: { token: string; output: string | null }) {
  const batch = useSignal<SharedBatch | null>(null);
  const problem = useSignal<string | null>(null);
  useEffect(() => {
    const gone = new AbortController();
    let readAt = 0; // ms
    const read = async () => {
      try {
        batch.value = await get<SharedBatch>("shared", { token, stop: gone.signal });
        readAt = Date.now();
        document.title = `${titleOf(batch.value)} · ${t.app.name}`;
      } catch (error) {
        if (error instanceof ApiError) problem.value = error.status === 401 ? t.shared.ended : inWords(error);
      }
    };
    void read();
    const leave = onWake(() => Date.now() - readAt > TICKET_MS && batch.value && void read());
    return () => {
      leave();
      gone.abort();
    };
  }, [token]);
  return (
    <>
      <header class="top">
        <span class="brand">
          <img src={new URL("../icon.svg", import.meta.url).href} alt="" width="28" height="28" />
          <span>{t.app.name}</span>
        </span>
        <Language />
      </header>
      <Again />
      <main id="main" tabIndex={-1}>
        {batch.value ? (
          <Videos batch={batch.value} token={token} output={output} />
        ) : (
          <Waiting problem={problem.value} />
        )}
      </main>
    </>
  );
}

function Waiting({ problem }: { problem: string | null }) {
  if (!problem)
    return (
      <p class="muted" role="status">
        {t.shared.loading}
      </p>
    );
  return (
    <div class="stack">
      <h1>{t.shared.title}</h1>
      <Notice tone="bad">{problem}</Notice>
    </div>
  );
}

const titleOf = ({ name, sources }: SharedBatch): string =>
  name ??
  namesOf(
    sources.map((source) => source.name),
    sources.length,
  );

function Videos({ batch, token, output }: { batch: SharedBatch; token: string; output: string | null }) {
  const play = usePlaying((one = "") => `#/shared/${token}${one && `/${one}`}`, output);
  const shown = useSignal(SHOWN_AT_FIRST);
  const outputs = batch.sources.flatMap((source) => source.outputs);
  const size = outputs.reduce((sum, { size_bytes }) => sum + (size_bytes ?? 0), 0);
  const playing = outputs.findIndex(({ output_id }) => output_id === output);
  let first = 0;
  return (
    <div class="stack loose">
      <header class="batch-head">
        <div class="batch-title">
          <h1>{titleOf(batch)}</h1>
          <p class="muted small">
            <span>{t.shared.videos(outputs.length)}</span>
            {batch.expires_at && <span>{t.shared.keptUntil(when(batch.expires_at))}</span>}
          </p>
        </div>
        {outputs.length > 0 && (
          <div class="actions">
            <a
              class="button primary"
              href={address(
                `batches/${batch.batch_id}/download?${new URLSearchParams({ ticket: batch.ticket })}`,
              )}
              download
            >
              <Icon name="download" />
              {t.shared.downloadAll(bytes(size))}
            </a>
          </div>
        )}
      </header>
      {outputs.length === 0 && <Notice>{t.shared.none}</Notice>}
      {batch.sources.map((source, n) => {
        const from = first;
        first += source.outputs.length;
        const visible = source.outputs.slice(0, Math.max(0, shown.value - from));
        return (
          visible.length > 0 && (
            <section key={n} class="stack source" aria-label={source.name}>
              <h2>{source.name}</h2>
              <ul
                class={`grid ${source.height > source.width ? "upright" : ""}`}
                style={{ "--shape": source.width ? `${source.width} / ${source.height}` : "4 / 3" }}
              >
                {visible.map((one) => (
                  <li key={one.output_id} class="tile ready">
                    <ReadyTile output={one} ticket={batch.ticket} onPlay={() => play(one)} />
                  </li>
                ))}
              </ul>
            </section>
          )
        );
      })}
      {outputs.length > shown.value && (
        <button
          type="button"
          onClick={() => {
            shown.value += 4 * SHOWN_AT_FIRST;
          }}
        >
          {t.shared.more(outputs.length - shown.value)}
        </button>
      )}
      {playing >= 0 && <Player outputs={outputs} at={playing} ticket={batch.ticket} onPlay={play} />}
    </div>
  );
}

interface Played {
  outputs: SharedOutput[];
  at: number;
  ticket: string;
  onPlay: (output: SharedOutput | null) => void;
}

function Player({ outputs, at, ticket, onPlay }: Played) {
  const output = outputs[at];
  const url = output ? mediaUrl(output, ticket, "inline") : "";
  const broken = useBroken();
  const step = (by: number) => {
    const next = outputs[at + by];
    if (next) onPlay(next);
  };
  useEffect(() => {
    const onKey = ({ key, target }: KeyboardEvent) => {
      if (target instanceof HTMLVideoElement) return; // where the arrows wind
      if (key === "ArrowLeft") step(-1);
      if (key === "ArrowRight") step(1);
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  });
  if (!output) return null;
  return (
    <Dialog kind="player" title={fileName(output.name)} onClose={() => onPlay(null)}>
      {broken.has(url) ? (
        <Notice tone="bad">{whyBroken(t.shared.broken)}</Notice>
      ) : (
        // biome-ignore lint/a11y/useMediaCaption: a user's own video, of which there are no captions
        <video
          key={output.output_id}
          class="shared-video"
          src={url}
          controls
          autoplay
          loop
          playsInline
          onError={() => broken.add(url)}
        />
      )}
      <PlayerFoot
        output={output}
        ticket={ticket}
        hasPrevious={at > 0}
        hasNext={at < outputs.length - 1}
        onStep={step}
      >
        <span class="muted small">{outputLabel(output)}</span>
      </PlayerFoot>
    </Dialog>
  );
}
