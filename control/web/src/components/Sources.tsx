import { type Signal, useSignal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { type Batch, isLive, isReady, type Output, type Source, sizeOf } from "../shapes";
import { t } from "../texts";
import { bytes, number, outputLabel, said } from "../words";
import { Bar } from "./Bar";
import { Tile } from "./Tile";

const TILES = { few: 24, many: 8, more: 48 }; // of each source at first; fewer of each of many
const SOURCES = { few: 4, atFirst: 12, more: 8 };
const USUAL_SHAPE = { width: 4, height: 3 };
const LABELS_MAX = 20; // of the failures named in one line

type Filter = keyof typeof t.sources.filters;

const FITS: Record<Filter, (output: Output) => boolean> = {
  all: () => true,
  ready: isReady,
  failed: ({ status }) => status === "failed",
  mirrored: ({ effects }) => effects.mirror === true,
};

const ALWAYS: Filter[] = ["all", "ready"]; // the others where there are any

interface Props {
  batch: Batch;
  ticket: string;
  chosen: Signal<ReadonlySet<string>>;
  onPlay: (output: Output) => void;
}

/** The results of each source, those that are ready first; as many as one looks at, more on demand. */
export function Sources({ batch, ticket, chosen, onPlay }: Props) {
  const filter = useSignal<Filter>("all");
  const sourcesShown = useSignal(SOURCES.atFirst);
  const tilesMore = useSignal<Record<string, number>>({});
  const hasEnded = !isLive(batch);
  const order = useOrder(hasEnded);
  useSteadyFocus(hasEnded);
  const outputs = batch.sources.flatMap((source) => source.outputs);
  const filters = (Object.keys(FITS) as Filter[])
    .map((name) => ({ name, fitting: outputs.filter(FITS[name]).length }))
    .filter(({ name, fitting }) => fitting > 0 || name === filter.value || ALWAYS.includes(name));
  const tilesAtFirst = batch.sources.length > SOURCES.few ? TILES.many : TILES.few;

  const fitting = batch.sources
    .map((source) => ({ source, outputs: order(source.outputs).filter(FITS[filter.value]) }))
    .filter((view) => view.outputs.length > 0);
  const views = fitting.slice(0, sourcesShown.value).map(({ source, outputs: of }) => {
    return { source, outputs: of, limit: tilesAtFirst + (tilesMore.value[source.source_id] ?? 0) };
  });
  const choosable = views.flatMap(({ outputs: of, limit }) => of.slice(0, limit).filter(isReady));
  return (
    <>
      <div class="row choices">
        <fieldset class="segments">
          <legend class="visually-hidden">{t.sources.show}</legend>
          {filters.map(({ name, fitting }) => (
            <label key={name}>
              <input
                type="radio"
                name="filter"
                checked={filter.value === name}
                onChange={() => {
                  filter.value = name;
                  tilesMore.value = {};
                  sourcesShown.value = SOURCES.atFirst;
                }}
              />
              <span>
                {t.sources.filters[name]} <small>{number(fitting)}</small>
              </span>
            </label>
          ))}
        </fieldset>
        <button
          type="button"
          id="choose"
          class={choosable.length ? "quiet" : "quiet unseen"}
          onClick={() => {
            chosen.value = new Set([...chosen.value, ...choosable.map(({ output_id }) => output_id)]);
          }}
        >
          {t.sources.selectShown(choosable.length)}
        </button>
      </div>
      {!views.length && <p class="muted">{t.sources.none}</p>}
      {views.map(({ source, outputs: of, limit }) => (
        <Kept
          key={source.source_id}
          source={source}
          outputs={of}
          limit={limit}
          filter={filter.value}
          hasEnded={hasEnded}
          batchError={batch.error?.message}
          ticket={ticket}
          chosen={chosen}
          onPlay={onPlay}
          onMore={() => {
            const before = tilesMore.value[source.source_id] ?? 0;
            tilesMore.value = { ...tilesMore.value, [source.source_id]: before + TILES.more };
          }}
        />
      ))}
      {fitting.length > views.length && (
        <button
          type="button"
          class="center"
          onClick={() => {
            focusIn(() => document.querySelectorAll(".source")[views.length]);
            sourcesShown.value += SOURCES.more;
          }}
        >
          {t.sources.moreSources(Math.min(fitting.length - views.length, SOURCES.more))}
        </button>
      )}
    </>
  );
}

/**
 * Sorts outputs: ready ones first; before the end in the order in which they got ready, so that none moves when
 * another does. Those that were ready at first are in their own order.
 */
function useOrder(hasEnded: boolean): (outputs: Output[]) => Output[] {
  const { current: arrived } = useRef(new Map<string, number>());
  const place = (output: Output) => arrived.get(output.output_id) ?? Number.POSITIVE_INFINITY;
  return (outputs) => {
    const ready = outputs.filter(isReady);
    for (const { output_id: id } of ready) if (!arrived.has(id)) arrived.set(id, arrived.size);
    if (!hasEnded) ready.sort((a, b) => place(a) - place(b));
    return [...ready, ...outputs.filter((output) => !isReady(output))];
  };
}

/** At the end outputs change their places; the focus stays with the one that has it. */
function useSteadyFocus(hasEnded: boolean): void {
  const had = useRef(hasEnded);
  const tile = had.current !== hasEnded && document.activeElement?.closest<HTMLElement>("[data-output]");
  const id = tile ? tile.dataset.output : undefined;
  had.current = hasEnded;
  useEffect(() => {
    if (id) document.querySelector<HTMLElement>(`[data-output="${id}"] button`)?.focus();
  }, [hasEnded]);
}

interface OfSourceProps {
  source: Source;
  outputs: Output[]; // those that fit the filter, in their order
  limit: number; // so many of them are shown
  filter: Filter;
  hasEnded: boolean;
  batchError: string | undefined;
  ticket: string;
  chosen: Signal<ReadonlySet<string>>;
  onPlay: (output: Output) => void;
  onMore: () => void;
}

/** A source that is drawn anew only when something of it has changed: there may be thousands of tiles. */
function Kept(props: OfSourceProps) {
  const { source, limit, filter, hasEnded, batchError, ticket } = props;
  return useMemo(() => <OfSource {...props} />, [source, limit, filter, hasEnded, batchError, ticket]);
}

function OfSource(props: OfSourceProps) {
  const { source, outputs, limit, hasEnded, batchError, ticket, chosen } = props;
  const shown = outputs.slice(0, limit);
  const hidden = outputs.length - shown.length;
  const ref = useRef<HTMLUListElement>(null);
  const seen = useSignal<typeof USUAL_SHAPE | null>(null); // of the first picture, where the size is unknown
  const ready = source.outputs.filter(isReady);
  const shape = source.width && source.height ? source : (seen.value ?? USUAL_SHAPE);
  const more = () => {
    focusIn(() => ref.current?.children[shown.length]);
    props.onMore();
  };
  return (
    <section class={`stack source ${shown.length > TILES.few ? "long" : ""}`} aria-label={source.name}>
      <div class="source-head">
        <h2>{source.name}</h2>
        <span class="muted small">
          {t.sources.ready(number(ready.length), number(source.outputs.length))}
          {hasEnded && ready.length > 0 && ` · ${bytes(sizeOf(ready))}`}
        </span>
        {!hasEnded && <Bar percent={source.percent} label={t.sources.progressOf(source.name)} />}
      </div>
      {source.notes.map((note) => (
        <p class="muted small" key={note}>
          {note}
        </p>
      ))}
      <ul
        ref={ref}
        class={`grid ${shape.height > shape.width ? "upright" : ""}`}
        style={{ "--shape": `${shape.width} / ${shape.height}` }}
      >
        {shown.map((output, index) => (
          // By place, not by id: then nothing moves on the page when a result gets ready.
          <Tile
            key={index}
            output={output}
            ticket={ticket}
            chosen={chosen}
            onPlay={props.onPlay}
            onShape={(width, height) => {
              if (!source.width) seen.value ??= { width, height };
            }}
          />
        ))}
      </ul>
      {hidden > 0 && (
        <button type="button" onClick={more}>
          {t.sources.more(number(Math.min(hidden, TILES.more)))}
        </button>
      )}
      <Failures outputs={source.outputs} known={batchError} />
    </section>
  );
}

/** Focus the first button of what is shown next, since the one that was pressed may go. */
function focusIn(next: () => Element | undefined): void {
  setTimeout(() => next()?.querySelector("button")?.focus());
}

/** Each reason once, in full, with the outputs that it took; without the one that the whole batch has. */
function Failures({ outputs, known }: { outputs: Output[]; known: string | undefined }) {
  const byReason = new Map<string, Output[]>();
  for (const output of outputs)
    if (output.error && output.error.message !== known) {
      const reason = said("results", output.error);
      byReason.set(reason, [...(byReason.get(reason) ?? []), output]);
    }
  if (!byReason.size) return null;
  return (
    <div class="notice bad">
      <ul class="stack" aria-label={t.sources.failures}>
        {[...byReason].map(([reason, failed]) => (
          <li key={reason}>
            <strong>
              {failed.slice(0, LABELS_MAX).map(outputLabel).join(", ")}
              {failed.length > LABELS_MAX && `, ${t.sources.andMore(failed.length - LABELS_MAX)}`}
            </strong>
            : {reason}
          </li>
        ))}
      </ul>
    </div>
  );
}
