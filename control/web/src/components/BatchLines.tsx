import { type Signal, useSignal } from "@preact/signals";
import { useMemo } from "preact/hooks";
import { address, inWords } from "../api";
import { linkTo } from "../route";
import { type BatchSummary, isLive } from "../shapes";
import { t } from "../texts";
import { bytes, money, namesOf, progress, shortened, span, when } from "../words";
import { download } from "./Actions";
import { Bar } from "./Bar";
import { Icon } from "./Icon";
import { Pill } from "./Pill";
import { toast } from "./Toast";
import { useBroken } from "./useBroken";
import { useNow } from "./useNow";

/** The ids of the batches that are chosen; null while nothing can be. */
export type Chosen = Signal<ReadonlySet<string> | null>;

/** Batches as lines, each with its pictures and a download. */
export function BatchLines({ items, chosen }: { items: BatchSummary[]; chosen: Chosen }) {
  const now = useNow(60_000);
  return (
    <ul class="batches">
      {items.map((batch) => (
        <Kept key={batch.batch_id} batch={batch} now={now} chosen={chosen} />
      ))}
    </ul>
  );
}

/** A line that is drawn anew only when something of it has changed: there may be thousands. */
function Kept({ batch, now, chosen }: { batch: BatchSummary; now: number; chosen: Chosen }) {
  const leftS = batch.expires_at ? (Date.parse(batch.expires_at) - now) / 1000 : 0;
  const keptFor = leftS > 0 && batch.status !== "expired" ? span(leftS) : null;
  const isChosen = chosen.value?.has(batch.batch_id) ?? null;
  return useMemo(
    () => <Line batch={batch} keptFor={keptFor} chosen={chosen} isChosen={isChosen} />,
    [batch, keptFor, isChosen],
  );
}

interface LineProps {
  batch: BatchSummary;
  keptFor: string | null;
  chosen: Chosen;
  isChosen: boolean | null; // null: nothing can be chosen now
}

const nameOf = ({ name, source_names, sources_count }: BatchSummary): string =>
  name ?? namesOf(source_names.map(shortened), sources_count);

function Line({ batch, keptFor, chosen, isChosen }: LineProps) {
  const name = nameOf(batch);
  return (
    <li id={batch.batch_id} class={`card batch-item ${batch.status}`}>
      {isChosen !== null && (
        <input
          type="checkbox"
          aria-label={t.history.chooseOne(name)}
          checked={isChosen}
          onChange={(event) => {
            const ids = new Set(chosen.value);
            if (event.currentTarget.checked) ids.add(batch.batch_id);
            else ids.delete(batch.batch_id);
            chosen.value = ids;
          }}
        />
      )}
      <a class="batch-line" href={linkTo(batch.batch_id)}>
        <Pictures batch={batch} />
        <span class="batch-what">
          <strong class="batch-name">{name}</strong>
          <span class="muted small">
            {when(batch.created_at)}
            {batch.shared && ` · ${t.history.shared}`}
          </span>
        </span>
        <span class="batch-progress small">
          <span class={isLive(batch) ? "" : "muted"}>{progress(batch)}</span>
          {isLive(batch) && <Bar percent={batch.progress.percent} label={t.history.progress(name)} />}
        </span>
        <span class="batch-cost small">
          <span>{money(batch.cost_usd)}</span>
          {batch.size_bytes > 0 && <span class="muted">{bytes(batch.size_bytes)}</span>}
        </span>
        <span class="batch-standing small">
          <Pill of={batch} />
          {keptFor && <span class="muted">{t.words.keptFor(keptFor)}</span>}
        </span>
      </a>
      <Download batch={batch} name={name} />
    </li>
  );
}

/** Pictures of up to three of its videos. */
function Pictures({ batch: { poster_output_ids: ids, ticket } }: { batch: BatchSummary }) {
  const broken = useBroken();
  const urls = ids.map((id) => address(`outputs/${id}/poster?${new URLSearchParams({ ticket })}`));
  const shown = urls.filter((url) => !broken.has(url));
  return (
    <span class={`batch-pictures of-${shown.length}`}>
      {shown.length === 0 && <Icon name="film" />}
      {shown.map((url) => (
        <img key={url} src={url} alt="" loading="lazy" onError={() => broken.add(url)} />
      ))}
    </span>
  );
}

function Download({ batch, name }: { batch: BatchSummary; name: string }) {
  const isBusy = useSignal(false);
  if (!batch.progress.ready || batch.status === "expired") return <span class="square" />;
  const go = async () => {
    if (isBusy.value) return;
    isBusy.value = true;
    await download(batch).catch((error) => toast(inWords(error), "bad"));
    isBusy.value = false;
  };
  return (
    <button
      type="button"
      class="quiet square"
      aria-label={t.history.download(name)}
      title={t.history.downloadSize(bytes(batch.size_bytes))}
      aria-disabled={isBusy.value}
      onClick={() => void go()}
    >
      <Icon name="download" />
    </button>
  );
}
