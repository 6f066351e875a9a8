// A batch as it changes: read whole now and then, kept current by its event stream; without one it polls.
import { signal } from "@preact/signals";
import * as api from "./api";
import { ApiError } from "./api";
import { pauseS } from "./fate";
import * as session from "./session";
import {
  type Batch,
  isLive,
  type Output,
  type OutputStatus,
  type Problem,
  type Progress,
  type Source,
  type Status,
} from "./shapes";
import { onWake } from "./waits";

const POLL_MS = { streaming: 5000, polling: 2000, ended: 60_000 };
const READ_AT_MOST_EVERY_MS = 400;
const TICKET_MS = 40 * 60 * 1000; // of an hour
const STREAM_LASTS_MS = 10_000; // one that is cut sooner is asked for ever more seldom
const OUTPUTS_TOGETHER_MS = 120;

/** A durable event that moved the batch or one of its jobs. */
export interface StateEvent {
  id: string;
  status: Status;
  partial: boolean;
  attempt_id: string | null;
  at: string;
}

interface Snapshot extends Progress {
  status: Status;
  waiting: Problem | null;
  sources: { source_id: string; status: OutputStatus; percent: number }[];
}

export class LiveBatch {
  readonly batch = signal<Batch | null>(null);
  readonly problem = signal<ApiError | null>(null);
  readonly freshAt = signal(0); // ms
  readonly events = signal<StateEvent[]>([]);
  /** Of posters and players. It stays while it can, since each new one loads every picture again. */
  readonly ticket = signal("");
  private ticketAt = 0;
  private ticketOf: string | null = null; // the session: its tickets end with it
  private stream: EventSource | null = null;
  private streamAfter = 0;
  private streamFailures = 0; // in a row
  private timer = 0;
  private readCostMs = 0;
  private isReading = false;
  private isAskedAgain = false; // while it was being read
  private readonly closed = new AbortController();
  private isTold = false; // the whole story of an ended batch has been streamed
  private fresh = new Map<string, Output>();

  constructor(private readonly id: string) {
    const { signal } = this.closed;
    document.addEventListener("visibilitychange", () => document.hidden && this.quiet(), { signal });
    signal.addEventListener("abort", onWake(this.wake));
    void this.read();
  }

  close(): void {
    this.closed.abort();
    this.quiet();
  }

  /** The network may be another one, and the stream dead without knowing it. */
  private readonly wake = (): void => {
    this.quiet();
    this.streamAfter = 0;
    this.poke();
  };

  /** Take a batch that a call has answered with. */
  take(batch: Batch): void {
    this.show(batch);
    this.problem.value = null;
    this.freshAt.value = Date.now();
    if (Date.now() - this.ticketAt > TICKET_MS || this.ticketOf !== session.token.peek()) {
      this.ticket.value = batch.ticket;
      this.ticketAt = Date.now();
      this.ticketOf = session.token.peek();
    }
    if (isLive(batch)) this.isTold = false;
    if (!this.isTold) this.listen();
  }

  /** Read it again now, or as soon as is decent: a large batch, which takes long to read, less often. */
  readonly poke = (): void => {
    const next = this.freshAt.peek() + Math.max(READ_AT_MOST_EVERY_MS, 4 * this.readCostMs);
    this.readIn(next - Date.now());
  };

  private quiet(): void {
    clearTimeout(this.timer);
    this.stream?.close();
    this.stream = null;
  }

  private readIn(ms: number): void {
    clearTimeout(this.timer);
    if (!this.closed.signal.aborted && !document.hidden)
      this.timer = window.setTimeout(() => void this.read(), ms);
  }

  private async read(): Promise<void> {
    this.isAskedAgain = this.isReading;
    if (this.isReading) return;
    this.isReading = true;
    let [startedAt, isOver] = [Date.now(), false];
    const onTrouble = (trouble: ApiError | null) => {
      this.problem.value = trouble;
      startedAt = Date.now();
    };
    try {
      const stop = this.closed.signal;
      this.take(await api.get<Batch>(`batches/${this.id}`, { stop, onTrouble }));
      this.readCostMs = Date.now() - startedAt;
    } catch (error) {
      isOver = error instanceof ApiError && !error.isPassing;
      if (error instanceof ApiError) this.problem.value = error;
    } finally {
      this.isReading = false;
    }
    if (!isOver) this.readIn(this.isAskedAgain ? READ_AT_MOST_EVERY_MS : this.pause());
  }

  /** How long until the next look, with jitter, so that many open pages do not ask in step. */
  private pause(): number {
    const { streaming, polling, ended } = POLL_MS;
    const batch = this.batch.value;
    const ms = batch && !isLive(batch) ? ended : this.stream ? streaming : polling;
    return ms * (0.75 + Math.random() / 2);
  }

  private listen(): void {
    if (this.stream || this.closed.signal.aborted || document.hidden || Date.now() < this.streamAfter) return;
    const stream = new EventSource(
      api.address(`batches/${this.id}/events?ticket=${encodeURIComponent(this.ticket.value)}`),
    );
    this.stream = stream;
    let openedAt = Infinity;
    stream.onopen = () => {
      openedAt = Date.now();
    };
    const on = <Data>(kind: string, take: (data: Data, id: string) => void) =>
      stream.addEventListener(kind, (event: MessageEvent<string>) =>
        take(JSON.parse(event.data), event.lastEventId),
      );
    on<Snapshot>("progress", (snapshot) => this.advance(snapshot));
    on<Output>("output", (output) => this.takeOutput(output));
    on<Omit<StateEvent, "id">>("state", (event, id) => this.note({ ...event, id }));
    stream.addEventListener("end", () => {
      this.isTold = true;
      this.leave(stream);
      this.poke();
    });
    stream.onerror = () => {
      this.leave(stream);
      this.streamFailures = Date.now() - openedAt > STREAM_LASTS_MS ? 1 : this.streamFailures + 1;
      this.streamAfter = Date.now() + 1000 * pauseS(this.streamFailures);
      this.poke();
    };
  }

  private leave(stream: EventSource): void {
    stream.close();
    if (this.stream === stream) this.stream = null;
  }

  private note(event: StateEvent): void {
    if (!this.events.value.some(({ id }) => id === event.id))
      this.events.value = [...this.events.value, event];
    this.poke();
  }

  private advance({ status, waiting, sources, ...progress }: Snapshot): void {
    const batch = this.batch.value;
    if (!batch) return;
    const of = new Map(sources.map((source) => [source.source_id, source]));
    this.freshAt.value = Date.now();
    const fresh = batch.sources.map((source) => ({ ...source, ...of.get(source.source_id) }));
    this.show({ ...batch, status, waiting, progress, sources: fresh });
  }

  /** Show a batch, with the very sources and outputs that are shown already where they have not changed. */
  private show(batch: Batch): void {
    const shown = new Map(this.batch.peek()?.sources.map((source) => [source.source_id, source]));
    const sources = batch.sources.map((source) => steady(source, shown.get(source.source_id)));
    this.batch.value = { ...batch, sources };
  }

  /** Outputs come in bursts; each burst is shown at once. */
  private takeOutput(output: Output): void {
    if (!this.fresh.size) setTimeout(() => this.showFresh(), OUTPUTS_TOGETHER_MS);
    this.fresh.set(output.output_id, output);
  }

  private showFresh(): void {
    const { fresh, batch } = this;
    this.fresh = new Map();
    if (!batch.value) return;
    const sources = batch.value.sources.map((source) => ({
      ...source,
      outputs: source.outputs.map((output) => fresh.get(output.output_id) ?? output),
    }));
    this.show({ ...batch.value, sources });
  }
}

/** A source as it is now: what of it has not changed is the same object as before, and is not drawn anew. */
function steady(source: Source, shown?: Source): Source {
  const outputs = source.outputs.map((output, at) => {
    const before = shown?.outputs[at];
    const isSteady =
      before &&
      isSame(output, before, "output_id", "status", "percent", "poster", "size_bytes") &&
      output.error?.message === before.error?.message;
    return isSteady ? before : output;
  });
  const isSteady =
    shown &&
    outputs.length === shown.outputs.length &&
    outputs.every((output, at) => output === shown.outputs[at]) &&
    isSame(source, shown, "status", "percent", "width") &&
    source.notes.length === shown.notes.length;
  return isSteady ? shown : { ...source, outputs };
}

/** Whether two have the same values of these keys, from which the others follow. */
const isSame = <Of, Key extends keyof Of>(one: Of, other: Of, ...keys: Key[]): boolean =>
  keys.every((key) => one[key] === other[key]);
